//! Where things are in IP, TCP and UDP headers.

use crate::checksum::{big, word_sum};

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const IPV4_HEADER: usize = 20;
pub const IPV6_HEADER: usize = 40;
pub const TCP_HEADER: usize = 20;
pub const UDP_HEADER: usize = 8;

pub const FIN: u8 = 0x01;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
pub const CWR: u8 = 0x80;

/// The 16-bit number at `at`, in network order.
pub fn word(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

/// The 32-bit number at `at`, in network order.
pub fn long(packet: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
}

/// Stores `value` at `at`, in network order. It is less than 65536 wherever this is called.
pub fn put_word(packet: &mut [u8], at: usize, value: usize) {
    packet[at..at + 2].copy_from_slice(&(value as u16).to_be_bytes());
}

/// The IP version, 0 of an empty packet.
pub fn version(packet: &[u8]) -> u8 {
    packet.first().map_or(0, |first| first >> 4)
}

/// Where the checksum is in a transport header.
pub fn checksum_offset(protocol: u8) -> usize {
    if protocol == TCP { 16 } else { 6 }
}

/// Where the transport header ends, or past the packet when it is cut short.
pub fn transport_end(packet: &[u8], start: usize, protocol: u8) -> usize {
    if protocol == UDP {
        return start + UDP_HEADER;
    }
    let words = packet.get(start + 12).map_or(0, |byte| usize::from(byte >> 4));
    start + TCP_HEADER.max(words * 4)
}

/// The sum of the addresses and the protocol: the pseudo-header without its length.
pub fn addresses_sum(header: &[u8], protocol: u8) -> u64 {
    let addresses = if version(header) == 4 { &header[12..20] } else { &header[8..40] };
    word_sum(addresses) + big(protocol.into())
}

/// Destination address of an IP packet, or None if it is none.
pub fn destination(packet: &[u8]) -> Option<&[u8]> {
    match version(packet) {
        4 if packet.len() >= IPV4_HEADER => Some(&packet[16..20]),
        6 if packet.len() >= IPV6_HEADER => Some(&packet[24..40]),
        _ => None,
    }
}

/// The ECN bits of an IP packet.
pub fn ecn(packet: &[u8]) -> u8 {
    if version(packet) == 4 { packet[1] & 3 } else { packet[1] >> 4 & 3 }
}

/// How long an IP packet says it is and its source address, or None if it is no IP packet.
pub fn extent(plaintext: &[u8]) -> Option<(usize, &[u8])> {
    let (length, source, shortest) = match version(plaintext) {
        4 if plaintext.len() >= IPV4_HEADER => {
            (usize::from(word(plaintext, 2)), &plaintext[12..16], IPV4_HEADER)
        }
        6 if plaintext.len() >= IPV6_HEADER => {
            (usize::from(word(plaintext, 4)) + IPV6_HEADER, &plaintext[8..24], IPV6_HEADER)
        }
        _ => return None,
    };
    (shortest..=plaintext.len()).contains(&length).then_some((length, source))
}
