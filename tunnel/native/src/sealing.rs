//! Seals and opens the packets of one session (WireGuard paper, section 5.4.6).

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use crate::datagrams::{Datagrams, Run};
use crate::packets::{Packet, Packets};

const HEADER: usize = 16;
const TAG: usize = 16;
const PADDING: usize = 16;
const MAX_SEGMENTS: usize = 64;
const MAX_SEGMENTED_BYTES: usize = 65507;
/// Counters from here on are never used (paper, section 6.1: 2^64 - 2^13 - 1).
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);

fn key_of(key: &[u8]) -> PyResult<LessSafeKey> {
    let key =
        UnboundKey::new(&CHACHA20_POLY1305, key).map_err(|_| PyValueError::new_err("a key has 32 bytes"))?;
    Ok(LessSafeKey::new(key))
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// The length after padding to a multiple of 16, but not past `mtu`.
fn padded(length: usize, mtu: usize) -> usize {
    length.next_multiple_of(PADDING).min(mtu).max(length)
}

/// Which packets leave in one piece: equal sizes, only the last shorter, as UDP_SEGMENT takes them.
pub(crate) struct Plan {
    pub(crate) count: usize,
    pub(crate) segment: usize,
    pub(crate) total: usize,
}

pub(crate) fn plan(packets: &[Packet], mtu: usize) -> Vec<Plan> {
    let mut plans: Vec<Plan> = Vec::new();
    let mut is_open = false;
    for packet in packets {
        let size = HEADER + padded(packet.len(), mtu) + TAG;
        match plans.last_mut() {
            Some(plan)
                if is_open
                    && size <= plan.segment
                    && plan.count < MAX_SEGMENTS.min(MAX_SEGMENTED_BYTES / plan.segment) =>
            {
                plan.count += 1;
                plan.total += size;
                is_open = size == plan.segment;
            }
            _ => {
                plans.push(Plan { count: 1, segment: size, total: size });
                is_open = true;
            }
        }
    }
    plans
}

/// Seals under one key.
#[pyclass(frozen)]
pub struct Sealer(LessSafeKey);

impl Sealer {
    /// One datagram; `out` has its size and is zero, as padding is.
    pub(crate) fn seal_into(&self, out: &mut [u8], receiver: u32, counter: u64, packet: &[u8]) {
        out[0] = 4;
        out[4..8].copy_from_slice(&receiver.to_le_bytes());
        out[8..HEADER].copy_from_slice(&counter.to_le_bytes());
        out[HEADER..HEADER + packet.len()].copy_from_slice(packet);
        let end = out.len() - TAG;
        let (sealed, tag) = out[HEADER..].split_at_mut(end - HEADER);
        let computed = self.0.seal_in_place_separate_tag(nonce(counter), Aad::empty(), sealed);
        // It fails only for more than 2^38 bytes.
        tag.copy_from_slice(computed.expect("a packet is short").as_ref());
    }
}

#[pymethods]
impl Sealer {
    #[new]
    pub(crate) fn new(key: &[u8]) -> PyResult<Self> {
        key_of(key).map(Self)
    }

    /// Transport messages around `packets`, with counters from `base` on. The caller has reserved these.
    fn seal_batch(
        &self,
        py: Python<'_>,
        receiver: u32,
        base: u64,
        packets: &Bound<'_, PyAny>,
        mtu: usize,
    ) -> PyResult<Datagrams> {
        let packets = Packets::of(packets)?.0;
        let mut left = packets.as_slice();
        let mut counter = base;
        let mut runs = Vec::new();
        for Plan { count, segment, total } in plan(&packets, mtu) {
            let (these, others) = left.split_at(count);
            let data = PyBytes::new_with(py, total, |buffer| {
                py.detach(|| {
                    for (number, (packet, out)) in
                        (counter..).zip(these.iter().zip(buffer.chunks_mut(segment)))
                    {
                        self.seal_into(out, receiver, number, packet);
                    }
                });
                Ok(())
            })?;
            runs.push(Run::new(data.into(), segment));
            counter += count as u64;
            left = others;
        }
        Ok(Datagrams(runs))
    }

    /// The same of a packet that comes alone.
    fn seal<'py>(
        &self,
        py: Python<'py>,
        receiver: u32,
        counter: u64,
        packet: &[u8],
        mtu: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        PyBytes::new_with(py, HEADER + padded(packet.len(), mtu) + TAG, |out| {
            self.seal_into(out, receiver, counter, packet);
            Ok(())
        })
    }
}

/// Opens under one key.
#[pyclass(frozen)]
pub struct Opener(LessSafeKey);

/// What a header says, if it can be used.
fn counter_of(header: &[u8]) -> Option<u64> {
    let counter = u64::from_le_bytes(header[8..].try_into().ok()?);
    (counter < REJECT_AFTER_MESSAGES).then_some(counter)
}

impl Opener {
    /// Appends the plaintext to `buffer`; the counter, or None for a forgery.
    pub(crate) fn open_into(&self, datagram: &[u8], buffer: &mut Vec<u8>) -> Option<u64> {
        let (header, sealed) = datagram.split_at_checked(HEADER)?;
        let counter = counter_of(header)?;
        let start = buffer.len();
        buffer.extend_from_slice(sealed);
        let opened = self.0.open_in_place(nonce(counter), Aad::empty(), &mut buffer[start..]);
        let length = opened.map(|plaintext| plaintext.len());
        buffer.truncate(start + length.unwrap_or(0));
        length.ok().map(|_| counter)
    }
}

#[pymethods]
impl Opener {
    #[new]
    pub(crate) fn new(key: &[u8]) -> PyResult<Self> {
        key_of(key).map(Self)
    }

    /// Counters and plaintexts (padding included) of the messages that authenticate, in order.
    fn open_batch(&self, py: Python<'_>, datagrams: &Bound<'_, PyAny>) -> PyResult<(Vec<u64>, Packets)> {
        let datagrams = Datagrams::of(datagrams)?;
        Ok(py.detach(|| {
            let mut buffer = Vec::with_capacity(datagrams.iter().map(<[u8]>::len).sum());
            let (mut counters, mut ends) = (Vec::new(), Vec::new());
            for datagram in datagrams.iter() {
                if let Some(counter) = self.open_into(datagram, &mut buffer) {
                    counters.push(counter);
                    ends.push(buffer.len());
                }
            }
            (counters, Packets::of_buffer(buffer, &ends))
        }))
    }

    /// The same of a message that comes alone.
    fn open<'py>(&self, py: Python<'py>, datagram: &[u8]) -> Option<(u64, Bound<'py, PyBytes>)> {
        let (header, sealed) = datagram.split_at_checked(HEADER)?;
        let (sealed, tag) = sealed.split_last_chunk::<TAG>()?;
        let counter = counter_of(header)?;
        let plaintext = PyBytes::new_with(py, sealed.len(), |out| {
            out.copy_from_slice(sealed);
            self.0
                .open_in_place_separate_tag(nonce(counter), Aad::empty(), (*tag).into(), out, 0..)
                .map(drop)
                .map_err(|_| PyValueError::new_err("a forgery"))
        });
        plaintext.ok().map(|plaintext| (counter, plaintext))
    }
}
