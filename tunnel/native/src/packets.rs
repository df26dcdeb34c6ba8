//! Many IP packets as one Python object: a sequence of `bytes` that are only made when asked for.

use std::ops::Deref;
use std::sync::Arc;

use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PySlice};

use crate::headers::{destination, ecn, extent};

/// One packet: a part of a buffer that it shares with others.
#[derive(Clone)]
pub struct Packet {
    buffer: Arc<Vec<u8>>,
    start: usize,
    end: usize,
}

impl Deref for Packet {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }
}

/// Packets that are not changed any more.
#[pyclass(frozen, sequence)]
pub struct Packets(pub Vec<Packet>);

impl Packets {
    /// Packets that follow each other in `buffer` and end where `ends` says.
    pub fn of_buffer(buffer: Vec<u8>, ends: &[usize]) -> Self {
        let buffer = Arc::new(buffer);
        let starts = std::iter::once(0).chain(ends.iter().copied());
        Self(
            starts
                .zip(ends)
                .map(|(start, &end)| Packet { buffer: Arc::clone(&buffer), start, end })
                .collect(),
        )
    }

    /// What Python gives: `Packets`, or any sequence of `bytes`, which is copied.
    pub fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(packets) = object.cast::<Self>() {
            return Ok(Self(packets.get().0.clone()));
        }
        let parts: Vec<PyBackedBytes> = object.extract()?;
        let mut buffer = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        let mut ends = Vec::with_capacity(parts.len());
        for part in &parts {
            buffer.extend_from_slice(part);
            ends.push(buffer.len());
        }
        Ok(Self::of_buffer(buffer, &ends))
    }
}

#[pymethods]
impl Packets {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if let Ok(slice) = key.cast::<PySlice>() {
            let chosen = slice_positions(slice, self.0.len())?;
            return Ok(Py::new(py, Self(chosen.map(|at| self.0[at].clone()).collect()))?
                .into_bound(py)
                .into_any());
        }
        let at = position(key.extract()?, self.0.len())?;
        Ok(PyBytes::new(py, &self.0[at]).into_any())
    }

    fn __add__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut packets = self.0.clone();
        packets.extend(Self::of(other)?.0);
        Ok(Self(packets))
    }

    /// Of all packets together.
    #[getter]
    fn nbytes(&self) -> usize {
        self.0.iter().map(|packet| packet.len()).sum()
    }
}

/// A position in a sequence, which may be counted from its end.
pub fn position(key: isize, length: usize) -> PyResult<usize> {
    let at = if key < 0 { length.checked_add_signed(key) } else { Some(key.unsigned_abs()) };
    at.filter(|&at| at < length).ok_or_else(|| PyIndexError::new_err("no such packet"))
}

/// The positions that a slice chooses.
pub fn slice_positions(
    slice: &Bound<'_, PySlice>,
    length: usize,
) -> PyResult<impl Iterator<Item = usize> + use<>> {
    let chosen = slice.indices(length.try_into()?)?;
    Ok((0..chosen.slicelength).filter_map(move |count| {
        chosen.start.unsigned_abs().checked_add_signed(chosen.step * isize::try_from(count).ok()?)
    }))
}

type Run<K> = (Option<K>, Packets);

/// Runs of packets with an equal key, in order.
fn runs<'a, K: PartialEq + Copy + 'a>(packets: impl Iterator<Item = (Option<K>, Packet)>) -> Vec<Run<K>> {
    let mut found: Vec<Run<K>> = Vec::new();
    for (key, packet) in packets {
        match found.last_mut() {
            Some((last, run)) if *last == key => run.0.push(packet),
            _ => found.push((key, Packets(vec![packet]))),
        }
    }
    found
}

/// An IPv4 or IPv6 address.
#[derive(Clone, Copy, PartialEq)]
struct Address([u8; 16], usize);

impl Address {
    fn new(bytes: &[u8]) -> Self {
        let mut address = [0; 16];
        address[..bytes.len()].copy_from_slice(bytes);
        Self(address, bytes.len())
    }

    fn to_python<'py>(self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0[..self.1])
    }
}

type Destined<'py> = (Option<Bound<'py, PyBytes>>, u8, Packets);

/// Runs of packets with equal destination and ECN; None for what is no IP packet.
#[pyfunction]
pub fn by_destination<'py>(py: Python<'py>, packets: &Bound<'py, PyAny>) -> PyResult<Vec<Destined<'py>>> {
    let packets = Packets::of(packets)?;
    let keyed = packets
        .0
        .into_iter()
        .map(|packet| (destination(&packet).map(|address| (Address::new(address), ecn(&packet))), packet));
    let to_python = |(key, run): Run<(Address, u8)>| match key {
        Some((address, ecn)) => (Some(address.to_python(py)), ecn, run),
        None => (None, 0, run),
    };
    Ok(runs(keyed).into_iter().map(to_python).collect())
}

type Sourced<'py> = (Option<Bound<'py, PyBytes>>, Packets);

/// Runs of packets with an equal source, cut to the length that each says it has; None for what is no IP
/// packet. Empty ones, keepalives, are left out.
#[pyfunction]
pub fn by_source<'py>(py: Python<'py>, plaintexts: &Bound<'py, PyAny>) -> PyResult<Vec<Sourced<'py>>> {
    let plaintexts = Packets::of(plaintexts)?;
    let keyed = plaintexts.0.into_iter().filter(|plaintext| !plaintext.is_empty()).map(|mut plaintext| {
        let found = extent(&plaintext).map(|(length, source)| (length, Address::new(source)));
        let source = found.map(|(length, source)| {
            plaintext.end = plaintext.start + length;
            source
        });
        (source, plaintext)
    });
    Ok(runs(keyed).into_iter().map(|(source, run)| (source.map(|s| s.to_python(py)), run)).collect())
}
