//! The Internet checksum (RFC 1071). Sums are of native-endian words: a one's complement sum does not
//! depend on the order of the bytes (section 2), as long as the result is stored the same way.

/// The sum of the 16-bit words of `data`, not folded; an odd last byte counts as if a zero followed.
pub fn word_sum(data: &[u8]) -> u64 {
    let mut longs = data.chunks_exact(4);
    let mut total: u64 =
        longs.by_ref().map(|long| u64::from(u32::from_ne_bytes([long[0], long[1], long[2], long[3]]))).sum();
    let mut words = longs.remainder().chunks_exact(2);
    total += words.by_ref().map(|word| u64::from(u16::from_ne_bytes([word[0], word[1]]))).sum::<u64>();
    if let [last] = words.remainder() {
        total += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    total
}

/// A number in network order as `word_sum` would have seen it.
pub fn big(value: usize) -> u64 {
    // Lengths and protocols of packets fit: a packet is no longer than 65535 bytes.
    u64::from(u16::to_be(u16::try_from(value).unwrap_or(u16::MAX)))
}

/// A sum as 16 bits: 0 only for a sum of nothing but zeros.
pub fn fold(mut total: u64) -> u16 {
    while total > 0xFFFF {
        total = (total & 0xFFFF) + (total >> 16);
    }
    total as u16
}

/// The checksum that brings `total` to zero, as it is stored; never the all-ones form of zero.
pub fn complement(total: u64) -> [u8; 2] {
    (!fold(total) % 0xFFFF).to_ne_bytes()
}
