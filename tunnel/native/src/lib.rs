//! The compiled data plane of Handfast: what is done to every packet, and nothing that decides.
//!
//! `handfast_tunnel.adapters.native` is its only caller; `core.batch` does the same in Python.

mod checksum;
mod datagrams;
mod frames;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod headers;
mod packets;
mod sealing;

use pyo3::prelude::*;

/// The module as Python sees it.
#[pymodule]
mod handfast_native {
    #[pymodule_export]
    use crate::datagrams::{Datagrams, by_receiver};
    #[pymodule_export]
    use crate::frames::{join, split};
    #[pymodule_export]
    use crate::packets::{Packets, by_destination, by_source};
    #[pymodule_export]
    use crate::sealing::{Opener, Sealer};

    /// Raised by every change that `adapters/native.py` would not understand.
    #[pymodule_export]
    const SEAM: u32 = 2;
}
