// Command vectors prints what wireguard-go computes, as JSON, with every random number it drew.
//
//	go run . > ../wireguard_go.json
//
// Two of its devices talk over a channel while the source of randomness is replaced by a recorder:
// the private ephemerals and the indices that explain each captured message are among the draws.
package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	mathrand "math/rand"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/curve25519"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/conn/bindtest"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/replay"
	"golang.zx2c4.com/wireguard/tun/tuntest"
)

const module = "golang.zx2c4.com/wireguard v0.0.0-20260522210424-ecfc5a8d5446"

// recorder is a reproducible stream that remembers each read.
type recorder struct {
	sync.Mutex
	count uint64
	draws [][]byte
}

func (r *recorder) Read(p []byte) (int, error) {
	r.Lock()
	defer r.Unlock()
	for filled := 0; filled < len(p); {
		block := sha256.Sum256(binary.LittleEndian.AppendUint64([]byte("handfast"), r.count))
		r.count++
		filled += copy(p[filled:], block[:])
	}
	r.draws = append(r.draws, append([]byte(nil), p...))
	return len(p), nil
}

// take returns the first draw of `size` bytes and forgets it.
func (r *recorder) take(size int) string {
	r.Lock()
	defer r.Unlock()
	for i, draw := range r.draws {
		if len(draw) == size {
			r.draws = append(r.draws[:i], r.draws[i+1:]...)
			return hex.EncodeToString(draw)
		}
	}
	panic(fmt.Sprintf("no draw of %d bytes", size))
}

// tap is a bind that reports what it sends.
type tap struct {
	conn.Bind
	sent chan<- string
}

func (t tap) Send(bufs [][]byte, endpoint conn.Endpoint) error {
	for _, buf := range bufs {
		t.sent <- hex.EncodeToString(buf)
	}
	return t.Bind.Send(bufs, endpoint)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func draw(p []byte) {
	_, err := rand.Read(p)
	must(err)
}

type transport struct {
	From   string `json:"from"`
	Packet string `json:"packet"`
	Wire   string `json:"wire"`
}

type handshake struct {
	Note               string      `json:"note"`
	InitiatorPrivate   string      `json:"initiator_private"`
	ResponderPrivate   string      `json:"responder_private"`
	PresharedKey       string      `json:"preshared_key"`
	InitiatorEphemeral string      `json:"initiator_ephemeral"`
	ResponderEphemeral string      `json:"responder_ephemeral"`
	InitiatorIndex     string      `json:"initiator_index"`
	ResponderIndex     string      `json:"responder_index"`
	Initiation         string      `json:"initiation"`
	Response           string      `json:"response"`
	Transport          []transport `json:"transport"`
}

type side struct {
	private, public []byte
	tun             *tuntest.ChannelTUN
	device          *device.Device
	sent            chan string
}

func newSide(bind conn.Bind, source *recorder) *side {
	private := make([]byte, 32)
	draw(private)
	source.draws = nil
	public, err := curve25519.X25519(private, curve25519.Basepoint)
	must(err)
	s := &side{private: private, public: public, tun: tuntest.NewChannelTUN(), sent: make(chan string, 64)}
	logger := device.NewLogger(device.LogLevelError, "")
	s.device = device.NewDevice(s.tun.TUN(), tap{bind, s.sent}, logger)
	return s
}

func (s *side) meet(other *side, psk []byte, address string, port int) {
	must(s.device.IpcSet(fmt.Sprintf(
		"private_key=%x\npublic_key=%x\npreshared_key=%x\nendpoint=127.0.0.1:%d\nallowed_ip=%s/32\n",
		s.private, other.public, psk, port, address)))
	must(s.device.Up())
}

func (s *side) next() string {
	select {
	case wire := <-s.sent:
		return wire
	case <-time.After(5 * time.Second):
		panic("nothing was sent")
	}
}

// captureHandshake lets a first packet start a session, and a few more follow both ways.
func captureHandshake(source *recorder, note string, psk []byte) handshake {
	source.draws = nil
	binds := bindtest.NewChannelBinds()
	a, b := newSide(binds[0], source), newSide(binds[1], source)
	defer a.device.Close()
	defer b.device.Close()
	a.meet(b, psk, "10.0.0.2", 1)
	b.meet(a, psk, "10.0.0.1", 2)
	source.draws = nil
	addressA, addressB := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")

	packet := tuntest.Ping(addressB, addressA)
	a.tun.Outbound <- packet
	h := handshake{
		Note:             note,
		InitiatorPrivate: hex.EncodeToString(a.private),
		ResponderPrivate: hex.EncodeToString(b.private),
		PresharedKey:     hex.EncodeToString(psk),
		Initiation:       a.next(),
		Response:         b.next(),
	}
	h.InitiatorEphemeral, h.InitiatorIndex = source.take(32), source.take(4)
	h.ResponderIndex, h.ResponderEphemeral = source.take(4), source.take(32)

	record := func(from string, s, to *side, packet []byte) {
		h.Transport = append(h.Transport, transport{from, hex.EncodeToString(packet), s.next()})
		if got := <-to.tun.Inbound; string(got) != string(packet) {
			panic("another packet came out")
		}
	}
	record("initiator", a, b, packet)
	for i := 0; i < 3; i++ {
		packet = append(tuntest.Ping(addressA, addressB), make([]byte, 7*i)...)
		binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
		b.tun.Outbound <- packet
		record("responder", b, a, packet)
		packet = append(tuntest.Ping(addressB, addressA), make([]byte, 450*i)...)
		binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
		a.tun.Outbound <- packet
		record("initiator", a, b, packet)
	}
	return h
}

type kdf struct {
	Key   string    `json:"key"`
	Input string    `json:"input"`
	Out   [3]string `json:"out"`
}

func captureKDF() (all []kdf) {
	for _, sizes := range [][2]int{{0, 0}, {8, 10}, {32, 0}, {32, 32}, {64, 32}} {
		key, input := make([]byte, sizes[0]), make([]byte, sizes[1])
		draw(key)
		draw(input)
		var t [3][blake2s.Size]byte
		device.KDF3(&t[0], &t[1], &t[2], key, input)
		all = append(all, kdf{hex.EncodeToString(key), hex.EncodeToString(input), [3]string{
			hex.EncodeToString(t[0][:]), hex.EncodeToString(t[1][:]), hex.EncodeToString(t[2][:]),
		}})
	}
	return all
}

type cookie struct {
	PublicKey string `json:"public_key"`
	Message   string `json:"message"`
	Source    string `json:"source"`
	Secret    string `json:"secret"`
	WithMAC1  string `json:"with_mac1"`
	Reply     string `json:"reply"`
	WithMAC2  string `json:"with_mac2"`
}

func captureCookie(source *recorder, size int, address netip.AddrPort) cookie {
	var key device.NoisePublicKey
	draw(key[:])
	message := make([]byte, size)
	draw(message[:size-32])
	from := binary.BigEndian.AppendUint16(address.Addr().AsSlice(), address.Port())

	var checker device.CookieChecker
	var generator device.CookieGenerator
	checker.Init(key)
	generator.Init(key)
	c := cookie{
		PublicKey: hex.EncodeToString(key[:]),
		Message:   hex.EncodeToString(message[:size-32]),
		Source:    address.String(),
	}
	generator.AddMacs(message)
	c.WithMAC1 = hex.EncodeToString(message)
	source.draws = nil
	reply, err := checker.CreateReply(message, 1234, from)
	must(err)
	c.Secret = source.take(32)
	wire := binary.LittleEndian.AppendUint32(nil, reply.Type)
	wire = binary.LittleEndian.AppendUint32(wire, reply.Receiver)
	wire = append(append(wire, reply.Nonce[:]...), reply.Cookie[:]...)
	c.Reply = hex.EncodeToString(wire)
	if !generator.ConsumeReply(reply) {
		panic("the reply was refused")
	}
	generator.AddMacs(message)
	if !checker.CheckMAC1(message) || !checker.CheckMAC2(message, from) {
		panic("the macs were refused")
	}
	c.WithMAC2 = hex.EncodeToString(message)
	return c
}

type counters struct {
	Counter  []uint64 `json:"counters"`
	Accepted []bool   `json:"accepted"`
}

// captureReplay walks a counter forward with jumps, repeats and stragglers around the window's edges.
func captureReplay(seed int64) (c counters) {
	random := mathrand.New(mathrand.NewSource(seed))
	var filter replay.Filter
	highest := uint64(0)
	for i := 0; i < 400; i++ {
		var counter uint64
		switch random.Intn(6) {
		case 0:
			counter = highest + 1
		case 1:
			counter = highest + uint64(random.Intn(9000))
		case 2:
			counter = highest - min(highest, uint64(8120+random.Intn(16)))
		case 3:
			counter = highest - min(highest, uint64(random.Intn(70)))
		case 4:
			counter = highest + uint64(random.Intn(130))
		default:
			if len(c.Counter) > 0 {
				counter = c.Counter[random.Intn(len(c.Counter))]
			}
		}
		c.Counter = append(c.Counter, counter)
		c.Accepted = append(c.Accepted, filter.ValidateCounter(counter, device.RejectAfterMessages))
		highest = max(highest, counter)
	}
	return c
}

type routes struct {
	Inserted [][2]any `json:"inserted"`
	Found    [][2]any `json:"found"`
}

func captureRoutes(seed int64, size int) (r routes) {
	random := mathrand.New(mathrand.NewSource(seed))
	var table device.AllowedIPs
	owners := make([]*device.Peer, 5)
	numbers := map[*device.Peer]any{}
	for i := range owners {
		owners[i] = &device.Peer{}
		numbers[owners[i]] = i
	}
	address := func() []byte {
		raw := make([]byte, size)
		for i := range raw {
			raw[i] = []byte{0, 10, 128, 255}[random.Intn(4)]
		}
		return raw
	}
	for i := 0; i < 60; i++ {
		ip, _ := netip.AddrFromSlice(address())
		prefix, err := ip.Prefix(random.Intn(size*8 + 1))
		must(err)
		owner := random.Intn(len(owners))
		table.Insert(prefix, owners[owner])
		r.Inserted = append(r.Inserted, [2]any{prefix.String(), owner})
	}
	for i := 0; i < 200; i++ {
		raw := address()
		ip, _ := netip.AddrFromSlice(raw)
		r.Found = append(r.Found, [2]any{ip.String(), numbers[table.Lookup(raw)]})
	}
	return r
}

func main() {
	source := &recorder{}
	rand.Reader = source
	psk := make([]byte, 32)
	draw(psk)
	fmt.Printf("{\"source\": %q", module+", printed by tests/unit/vectors/generator")
	section("handshakes",
		captureHandshake(source, "without a preshared key", make([]byte, 32)),
		captureHandshake(source, "with a preshared key", psk))
	section("kdf", captureKDF()...)
	section("cookies",
		captureCookie(source, 148, netip.MustParseAddrPort("192.0.2.7:51820")),
		captureCookie(source, 92, netip.MustParseAddrPort("[2001:db8::7]:1")))
	section("replay", captureReplay(1), captureReplay(2), captureReplay(3))
	section("routes", captureRoutes(1, 4), captureRoutes(2, 4), captureRoutes(3, 16))
	fmt.Println("\n}")
}

// section prints an array with one vector a line.
func section[T any](name string, vectors ...T) {
	lines := make([]string, len(vectors))
	for i, vector := range vectors {
		line, err := json.Marshal(vector)
		must(err)
		lines[i] = string(line)
	}
	fmt.Printf(",\n%q: [\n%s\n]", name, strings.Join(lines, ",\n"))
}
