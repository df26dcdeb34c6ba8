//! Many UDP datagrams as one Python object: a sequence of `bytes` that lie as the kernel takes and gives them.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PySlice};

use crate::packets::{position, slice_positions};

const TRANSPORT_PREFIX: [u8; 4] = [4, 0, 0, 0];
const TRANSPORT_MIN_LENGTH: usize = 32;

/// Datagrams of `segment` bytes, only the last may be shorter: what UDP_GRO gives and UDP_SEGMENT takes.
#[derive(Clone)]
pub struct Run {
    data: Arc<PyBackedBytes>,
    start: usize,
    end: usize,
    segment: usize,
}

impl Run {
    /// `segment` 0, or more than there is, means one datagram.
    pub fn new(data: PyBackedBytes, segment: usize) -> Self {
        let end = data.len();
        let segment = if segment == 0 || segment > end { end } else { segment };
        Self { data: Arc::new(data), start: 0, end, segment }
    }

    fn count(&self) -> usize {
        (self.end - self.start).div_ceil(self.segment.max(1)).max(1)
    }

    fn span(&self, at: usize) -> (usize, usize) {
        let start = self.start + at * self.segment;
        (start, self.end.min(start + self.segment))
    }

    fn datagram(&self, at: usize) -> &[u8] {
        let (start, end) = self.span(at);
        &self.data[start..end]
    }

    /// The datagrams from `first` to before `last`.
    fn part(&self, first: usize, last: usize) -> Self {
        let (start, _) = self.span(first);
        let (_, end) = self.span(last - 1);
        Self { data: Arc::clone(&self.data), start, end, segment: self.segment.min(end - start) }
    }
}

/// Datagrams that are not changed any more.
#[pyclass(frozen, sequence)]
pub struct Datagrams(pub Vec<Run>);

impl Datagrams {
    /// What Python gives: `Datagrams`, or any sequence of `bytes`.
    pub fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(datagrams) = object.cast::<Self>() {
            return Ok(Self(datagrams.get().0.clone()));
        }
        let parts: Vec<PyBackedBytes> = object.extract()?;
        Ok(Self(parts.into_iter().map(|part| Run::new(part, 0)).collect()))
    }

    /// All datagrams in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().flat_map(|run| (0..run.count()).map(|at| run.datagram(at)))
    }

    fn part(&self, at: usize) -> Run {
        let mut left = at;
        for run in &self.0 {
            if left < run.count() {
                return run.part(left, left + 1);
            }
            left -= run.count();
        }
        unreachable!("positions are checked against the length")
    }
}

#[pymethods]
impl Datagrams {
    /// What one read of a socket gave.
    #[new]
    fn new(data: PyBackedBytes, segment: usize) -> Self {
        Self(vec![Run::new(data, segment)])
    }

    fn __len__(&self) -> usize {
        self.0.iter().map(Run::count).sum()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if let Ok(slice) = key.cast::<PySlice>() {
            let chosen = slice_positions(slice, self.__len__())?;
            return Ok(Py::new(py, Self(chosen.map(|at| self.part(at)).collect()))?
                .into_bound(py)
                .into_any());
        }
        let run = self.part(position(key.extract()?, self.__len__())?);
        Ok(PyBytes::new(py, run.datagram(0)).into_any())
    }

    fn __add__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut runs = self.0.clone();
        runs.extend(Self::of(other)?.0);
        Ok(Self(runs))
    }

    /// Of all datagrams together.
    #[getter]
    fn nbytes(&self) -> usize {
        self.0.iter().map(|run| run.end - run.start).sum()
    }

    /// Per run its bytes, the size of all datagrams but the last, and how many they are.
    fn runs<'py>(&self, py: Python<'py>) -> Vec<(Bound<'py, PyAny>, usize, usize)> {
        let to_python = |run: &Run| {
            let whole = run.start == 0 && run.end == run.data.len();
            let bytes = if whole {
                (&*run.data).into_pyobject(py).map(Bound::into_any).unwrap_or_else(|never| match never {})
            } else {
                PyBytes::new(py, &run.data[run.start..run.end]).into_any()
            };
            (bytes, run.segment, run.count())
        };
        self.0.iter().map(to_python).collect()
    }
}

/// The receiver index of a transport message that may be whole.
fn receiver(datagram: &[u8]) -> Option<u32> {
    let index = datagram.get(4..8)?;
    let is_transport = datagram.len() >= TRANSPORT_MIN_LENGTH && datagram[..4] == TRANSPORT_PREFIX;
    is_transport.then(|| u32::from_le_bytes([index[0], index[1], index[2], index[3]]))
}

/// Runs of transport messages to one receiver index; None for everything else.
#[pyfunction]
pub fn by_receiver(datagrams: &Bound<'_, PyAny>) -> PyResult<Vec<(Option<u32>, Datagrams)>> {
    let mut found: Vec<(Option<u32>, Datagrams)> = Vec::new();
    for run in Datagrams::of(datagrams)?.0 {
        let mut first = 0;
        for end in 1..=run.count() {
            let index = receiver(run.datagram(first));
            if end < run.count() && receiver(run.datagram(end)) == index {
                continue;
            }
            let part = run.part(first, end);
            first = end;
            match found.last_mut() {
                Some((last, datagrams)) if *last == index => datagrams.0.push(part),
                _ => found.push((index, Datagrams(vec![part]))),
            }
        }
    }
    Ok(found)
}
