//! What must hold whatever the bytes are; only in builds for the fuzzer, which are in `fuzz/`.
//!
//! Input is taken apart as `tests/fuzz/both_planes.py` does it, so that both fuzzers share what they find.

use crate::frames::{Cut, coalesce};
use crate::headers::{IPV4_HEADER, IPV6_HEADER, TCP, UDP, checksum_offset, extent, put_word, version};
use crate::packets::{Packet, Packets};
use crate::sealing::{Opener, Sealer, plan};

const MTU: usize = 1420;
const DO_NOT_FRAGMENT: u8 = 0x40;

/// Byte strings, each after its length in two bytes.
fn pieces(mut data: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while let Some((head, rest)) = data.split_at_checked(2) {
        let length = usize::from(u16::from_be_bytes([head[0], head[1]])).min(rest.len());
        let (piece, others) = rest.split_at(length);
        found.push(piece);
        data = others;
    }
    found
}

fn packets(pieces: &[&[u8]]) -> Vec<Packet> {
    let mut ends = Vec::new();
    let mut buffer = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        ends.push(buffer.len());
    }
    Packets::of_buffer(buffer, &ends).0
}

/// Reads of the TUN are cut into packets that lie behind each other, or refused and leave nothing.
pub fn reads(data: &[u8]) {
    let mut cut = Cut::default();
    for frame in pieces(data) {
        let before = (cut.buffer.len(), cut.ends.len());
        match cut.frame(frame) {
            Some(()) => assert_eq!(cut.ends.last(), Some(&cut.buffer.len())),
            None => assert_eq!((cut.buffer.len(), cut.ends.len()), before),
        }
    }
    assert!(cut.ends.is_sorted());
}

/// What is joined for the TUN is the same packets when it is cut again.
pub fn writes(data: &[u8]) {
    let is_whole = |piece: &&[u8]| extent(piece).is_some_and(|(length, _)| length == piece.len());
    let whole: Vec<&[u8]> = pieces(data).into_iter().filter(is_whole).collect();
    let mut cut = Cut::default();
    for frame in coalesce(packets(&whole), true, true) {
        let mut bytes = vec![0; frame.size()];
        frame.fill(&mut bytes);
        cut.frame(&bytes).expect("we describe what we write");
    }
    let again = Packets::of_buffer(cut.buffer, &cut.ends).0;
    let mut again: Vec<Vec<u8>> = again.iter().map(|packet| essence(packet)).collect();
    let mut once: Vec<Vec<u8>> = whole.iter().map(|packet| essence(packet)).collect();
    again.sort();
    once.sort();
    assert_eq!(again, once);
}

/// Without checksums, which the kernel makes anew, and identification where it means nothing (RFC 6864).
fn essence(packet: &[u8]) -> Vec<u8> {
    let is_ipv4 = version(packet) == 4;
    let (start, protocol) = if is_ipv4 { (IPV4_HEADER, packet[9]) } else { (IPV6_HEADER, packet[6]) };
    let mut essence = packet.to_vec();
    let at = start + checksum_offset(protocol);
    if [TCP, UDP].contains(&protocol) && packet.len() >= at + 2 {
        put_word(&mut essence, at, 0);
    }
    if is_ipv4 {
        put_word(&mut essence, 10, 0);
        if packet[6] & DO_NOT_FRAGMENT != 0 {
            put_word(&mut essence, 4, 0);
        }
    }
    essence
}

/// What is sealed opens; what is not, or was altered, does not.
pub fn opening(data: &[u8]) {
    let key = [7; 32];
    let (sealer, opener) = (Sealer::new(&key).expect("32 bytes"), Opener::new(&key).expect("32 bytes"));
    let packets = packets(&pieces(data));
    let mut left = packets.as_slice();
    let mut opened = Vec::new();
    for (plan, number) in plan(&packets, MTU).into_iter().zip(0..) {
        let (these, others) = left.split_at(plan.count);
        let mut run = vec![0; plan.total];
        for (packet, datagram) in these.iter().zip(run.chunks_mut(plan.segment)) {
            sealer.seal_into(datagram, 1, number, packet);
            opened.clear();
            assert_eq!(opener.open_into(datagram, &mut opened), Some(number));
            assert!(opened.starts_with(packet) && opened[packet.len()..].iter().all(|&byte| byte == 0));
            let at = 8 + packet.len() % (datagram.len() - 8);
            datagram[at] ^= 1;
            assert_eq!(opener.open_into(datagram, &mut opened), None);
        }
        left = others;
    }
    assert!(left.is_empty());
    let before = opened.len();
    assert!(packets.iter().all(|garbage| opener.open_into(garbage, &mut opened).is_none()));
    assert_eq!(opened.len(), before);
}
