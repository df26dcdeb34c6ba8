//! Segmentation offload in user space: what the TUN device reads and writes, a virtio-net header before each
//! packet (virtio specification 1.2, section 5.1.6). The reasons are in `adapters/offload.py`, which does
//! the same.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::checksum::{big, complement, word_sum};
use crate::headers::{
    ACK, CWR, FIN, IPV4_HEADER, IPV6_HEADER, PSH, TCP, UDP, addresses_sum, checksum_offset, long, put_word,
    transport_end, version, word,
};
use crate::packets::{Packet, Packets};

const VNET_HEADER: usize = 10;
const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;
const IPV4_WITHOUT_OPTIONS: u8 = 0x45;
const DO_NOT_FRAGMENT: u8 = 0x40;
const FRAGMENT: u16 = 0x3FFF;
const MAX_PACKET: usize = 65535;
const MAX_SEGMENTS: usize = 64;

// --- from the kernel ---------------------------------------------------------------------------------

/// What a virtio-net header says: flags, gso_type, gso_size, csum_start, csum_offset.
struct Description {
    needs_checksum: bool,
    kind: u8,
    segment: usize,
    start: usize,
    offset: usize,
}

impl Description {
    fn parse(header: &[u8]) -> Self {
        let field = |at: usize| usize::from(u16::from_ne_bytes([header[at], header[at + 1]]));
        Self {
            needs_checksum: header[0] & NEEDS_CSUM != 0,
            kind: header[1] & !GSO_ECN,
            segment: field(4),
            start: field(6),
            offset: field(8),
        }
    }
}

/// Packets that are being cut out, one behind the other.
#[derive(Default)]
pub(crate) struct Cut {
    pub(crate) buffer: Vec<u8>,
    pub(crate) ends: Vec<usize>,
}

impl Cut {
    /// The packets of one read; None if its description contradicts its bytes.
    pub(crate) fn frame(&mut self, frame: &[u8]) -> Option<()> {
        let (header, packet) = frame.split_at_checked(VNET_HEADER)?;
        let described = Description::parse(header);
        match described.kind {
            GSO_NONE if described.needs_checksum => {
                self.with_checksum(packet, described.start, described.offset)
            }
            GSO_NONE => {
                self.buffer.extend_from_slice(packet);
                self.ends.push(self.buffer.len());
                Some(())
            }
            GSO_TCPV4 | GSO_TCPV6 | GSO_UDP_L4 if described.segment > 0 => {
                let protocol = if described.kind == GSO_UDP_L4 { UDP } else { TCP };
                self.segments(packet, described.segment, described.start, protocol)
            }
            _ => None,
        }
    }

    /// Finishes a checksum whose field holds the sum of the pseudo-header so far.
    fn with_checksum(&mut self, packet: &[u8], start: usize, offset: usize) -> Option<()> {
        let at = start + offset;
        if at + 2 > packet.len() {
            return None;
        }
        let first = self.buffer.len();
        self.buffer.extend_from_slice(packet);
        let is_udp = offset == checksum_offset(UDP);
        put_checksum(&mut self.buffer[first..], at, word_sum(&packet[start..]), is_udp);
        self.ends.push(self.buffer.len());
        Some(())
    }

    fn segments(&mut self, packet: &[u8], size: usize, start: usize, protocol: u8) -> Option<()> {
        let is_ipv4 = version(packet) == 4;
        let end = transport_end(packet, start, protocol);
        if start < if is_ipv4 { IPV4_HEADER } else { IPV6_HEADER } || end >= packet.len() {
            return None;
        }
        let (header, payload) = packet.split_at(end);
        let addresses = addresses_sum(header, protocol);
        let (identification, sequence) = (word(header, 4), long(header, start + 4));
        let last = payload.len().div_ceil(size) - 1;
        for (number, piece) in payload.chunks(size).enumerate() {
            let first = self.buffer.len();
            self.buffer.extend_from_slice(header);
            self.buffer.extend_from_slice(piece);
            let segment = &mut self.buffer[first..];
            let length = segment.len();
            if is_ipv4 {
                put_word(segment, 2, length);
                put_word(segment, 4, (usize::from(identification) + number) & 0xFFFF);
                put_checksum_of_header(&mut segment[..start]);
            } else {
                put_word(segment, 4, length - IPV6_HEADER);
            }
            if protocol == TCP {
                let at = sequence.wrapping_add((number * size) as u32);
                segment[start + 4..start + 8].copy_from_slice(&at.to_be_bytes());
                let not_first = if number > 0 { CWR } else { 0 };
                let not_last = if number < last { FIN | PSH } else { 0 };
                segment[start + 13] &= !(not_first | not_last);
            } else {
                put_word(segment, start + 4, length - start);
            }
            let at = start + checksum_offset(protocol);
            put_word(segment, at, 0);
            let total = addresses + big(length - start) + word_sum(&segment[start..]);
            put_checksum(segment, at, total, protocol == UDP);
            self.ends.push(self.buffer.len());
        }
        Some(())
    }
}

fn put_checksum(packet: &mut [u8], at: usize, total: u64, is_udp: bool) {
    let mut value = complement(total);
    if is_udp && value == [0, 0] {
        value = [0xFF, 0xFF]; // RFC 768: zero would mean that there is none
    }
    packet[at..at + 2].copy_from_slice(&value);
}

fn put_checksum_of_header(header: &mut [u8]) {
    put_word(header, 10, 0);
    let value = complement(word_sum(header));
    header[10..12].copy_from_slice(&value);
}

/// The packets that reads of the TUN device stand for, with finished checksums, and how many reads were
/// described in a way that their bytes contradict.
#[pyfunction]
pub fn split(py: Python<'_>, frames: Vec<PyBackedBytes>) -> (Packets, usize) {
    py.detach(|| {
        let mut cut = Cut::default();
        // Each of some 45 segments repeats a header.
        cut.buffer.reserve(frames.iter().map(|frame| frame.len() + frame.len() / 16).sum());
        let malformed = frames.iter().filter(|frame| cut.frame(frame).is_none()).count();
        (Packets::of_buffer(cut.buffer, &cut.ends), malformed)
    })
}

// --- to the kernel -----------------------------------------------------------------------------------

/// Segments that follow each other in one flow. Looks at the first only when there is a second.
struct Group {
    packets: Vec<Packet>,
    start: usize,
    protocol: u8,
    /// 0 until the first packet has been looked at.
    end: usize,
    /// Payload bytes of each packet but the last; 0: nothing may follow.
    segment: usize,
}

impl Group {
    fn new(first: Packet, start: usize, protocol: u8) -> Self {
        Self { packets: vec![first], start, protocol, end: 0, segment: 0 }
    }

    /// Appends `packet` if it may follow.
    fn take(&mut self, packet: &Packet) -> bool {
        if self.end == 0 {
            self.lead();
        }
        let size = packet.len().saturating_sub(self.end);
        if size == 0 || size > self.segment || !self.is_like_the_first(packet) || !self.is_next(packet) {
            return false;
        }
        self.packets.push(packet.clone());
        let count = self.packets.len();
        let is_last = size < self.segment || self.protocol == TCP && packet[self.start + 13] & PSH != 0;
        if is_last || count == MAX_SEGMENTS || packet.len() + count * size > MAX_PACKET {
            self.segment = 0;
        }
        true
    }

    fn lead(&mut self) {
        let (first, start) = (&self.packets[0], self.start);
        self.end = transport_end(first, start, self.protocol);
        let is_fragment = start == IPV4_HEADER && first.len() >= start && word(first, 6) & FRAGMENT != 0;
        if first.len() <= self.end || is_fragment {
            return;
        }
        let may_lead =
            if self.protocol == TCP { first[start + 13] == ACK } else { has_udp_checksum(first, start) };
        if may_lead {
            self.segment = first.len() - self.end;
        }
    }

    /// Whether the headers are equal but for what differs between segments: lengths, identification,
    /// checksums, sequence, PSH.
    fn is_like_the_first(&self, packet: &[u8]) -> bool {
        let (first, start, end) = (&self.packets[0], self.start, self.end);
        let equal = |from: usize, to: usize| first[from..to] == packet[from..to];
        let network = if start == IPV4_HEADER {
            equal(0, 2) && equal(6, 10) && equal(12, start)
        } else {
            equal(0, 4) && equal(6, start)
        };
        let transport = if self.protocol == TCP {
            let flags = (first[start + 13] ^ packet[start + 13]) & !PSH;
            equal(start, start + 4)
                && equal(start + 8, start + 13)
                && flags == 0
                && equal(start + 14, start + 16)
                && equal(start + 18, end)
        } else {
            equal(start, start + 4)
        };
        network && transport
    }

    fn is_next(&self, packet: &[u8]) -> bool {
        let (first, start, count) = (&self.packets[0], self.start, self.packets.len());
        if self.protocol == UDP {
            if !has_udp_checksum(packet, start) {
                return false;
            }
        } else if long(packet, start + 4)
            != long(first, start + 4).wrapping_add((count * self.segment) as u32)
        {
            return false;
        }
        // RFC 6864: the identification of a packet that must not be fragmented means nothing.
        start == IPV6_HEADER
            || first[6] & DO_NOT_FRAGMENT != 0
            || word(packet, 4) == word(first, 4).wrapping_add(count as u16)
    }

    /// Whether all checksums are right: a joined packet asks the kernel to compute them afresh, and what
    /// was corrupted before it entered the tunnel must stay recognisable.
    fn is_intact(&self) -> bool {
        self.packets.iter().all(|packet| {
            let start = self.start;
            let pseudo = addresses_sum(packet, self.protocol) + big(packet.len() - start);
            let header = if start == IPV4_HEADER { word_sum(&packet[..start]) } else { 0 };
            header % 0xFFFF == 0 && (pseudo + word_sum(&packet[start..])) % 0xFFFF == 0
        })
    }

    /// The frames of this group: one, or if a checksum is wrong one for every packet, for the kernel to
    /// judge.
    fn into_frames(self, frames: &mut Vec<Frame>) {
        if self.packets.len() == 1 || self.is_intact() {
            frames.push(Frame {
                start: self.start,
                end: self.end,
                protocol: self.protocol,
                packets: self.packets,
            });
        } else {
            let alone = |packet| Frame { packets: vec![packet], start: 0, end: 0, protocol: 0 };
            frames.extend(self.packets.into_iter().map(alone));
        }
    }
}

fn has_udp_checksum(packet: &[u8], start: usize) -> bool {
    usize::from(word(packet, start + 4)) == packet.len() - start && word(packet, start + 6) != 0
}

/// What one write carries.
pub(crate) struct Frame {
    packets: Vec<Packet>,
    start: usize,
    end: usize,
    protocol: u8,
}

impl Frame {
    pub(crate) fn size(&self) -> usize {
        let repeated = (self.packets.len() - 1) * self.end;
        VNET_HEADER + self.packets.iter().map(|packet| packet.len()).sum::<usize>() - repeated
    }

    /// `out` has the size of the frame and is zero.
    pub(crate) fn fill(&self, out: &mut [u8]) {
        let (vnet_header, packet) = out.split_at_mut(VNET_HEADER);
        let first = &self.packets[0];
        if let [alone] = self.packets.as_slice() {
            packet.copy_from_slice(alone);
            return;
        }
        packet[..self.end].copy_from_slice(&first[..self.end]);
        let mut at = self.end;
        for each in &self.packets {
            let payload = &each[self.end..];
            packet[at..at + payload.len()].copy_from_slice(payload);
            at += payload.len();
        }
        let gso_type = self.finish_header(packet);
        vnet_header[..2].copy_from_slice(&[NEEDS_CSUM, gso_type]);
        let offset = checksum_offset(self.protocol);
        for (place, value) in [(2, self.end), (4, first.len() - self.end), (6, self.start), (8, offset)] {
            vnet_header[place..place + 2].copy_from_slice(&(value as u16).to_ne_bytes());
        }
    }

    /// Lengths and checksums of the joined packet; returns its segmentation type.
    fn finish_header(&self, packet: &mut [u8]) -> u8 {
        let (start, length) = (self.start, packet.len());
        let mut gso_type = if start == IPV4_HEADER { GSO_TCPV4 } else { GSO_TCPV6 };
        if start == IPV4_HEADER {
            put_word(packet, 2, length);
            put_checksum_of_header(&mut packet[..start]);
        } else {
            put_word(packet, 4, length - IPV6_HEADER);
        }
        if self.protocol == TCP {
            packet[start + 13] |= self.packets[self.packets.len() - 1][start + 13] & PSH;
        } else {
            gso_type = GSO_UDP_L4;
            put_word(packet, start + 4, length - start);
        }
        // The field holds the sum of the pseudo-header; the kernel goes on from there.
        let pseudo = (addresses_sum(packet, self.protocol) + big(length - start)) % 0xFFFF;
        let at = start + checksum_offset(self.protocol);
        packet[at..at + 2].copy_from_slice(&(pseudo as u16).to_ne_bytes());
        gso_type
    }
}

/// Groups packets, each as long as its header says. Those of one flow keep their order; flows may overtake
/// each other.
pub(crate) fn coalesce(packets: Vec<Packet>, tcp: bool, udp: bool) -> Vec<Frame> {
    let mut groups: Vec<Group> = Vec::new();
    let mut flows: HashMap<Vec<u8>, usize> = HashMap::new();
    for packet in packets {
        let (flow, protocol, start) = match packet.first() {
            Some(&IPV4_WITHOUT_OPTIONS) if packet.len() >= 24 => (&packet[12..24], packet[9], IPV4_HEADER),
            Some(first) if first >> 4 == 6 && packet.len() >= 44 => (&packet[8..44], packet[6], IPV6_HEADER),
            _ => {
                groups.push(Group::new(packet, 0, 0));
                continue;
            }
        };
        let joins = protocol == TCP && tcp || protocol == UDP && udp;
        match flows.entry(flow.to_vec()) {
            Entry::Occupied(entry) if groups[*entry.get()].take(&packet) => continue,
            Entry::Occupied(mut entry) if joins => {
                entry.insert(groups.len());
            }
            Entry::Vacant(entry) if joins => {
                entry.insert(groups.len());
            }
            _ => {}
        }
        groups.push(Group::new(packet, start, protocol));
    }
    let mut frames = Vec::with_capacity(groups.len());
    for group in groups {
        group.into_frames(&mut frames);
    }
    frames
}

/// What to write for these packets, each with the packets that it stands for.
#[pyfunction]
pub fn join<'py>(
    py: Python<'py>,
    packets: &Bound<'py, PyAny>,
    tcp: bool,
    udp: bool,
) -> PyResult<Vec<(Bound<'py, PyBytes>, Packets)>> {
    let packets = Packets::of(packets)?.0;
    let frames = py.detach(|| coalesce(packets, tcp, udp));
    let to_python = |frame: Frame| {
        let bytes = PyBytes::new_with(py, frame.size(), |out| {
            py.detach(|| frame.fill(out));
            Ok(())
        })?;
        Ok((bytes, Packets(frame.packets)))
    };
    frames.into_iter().map(to_python).collect()
}
