//! The devices of a build without the feature `rdma`: none.

use super::port::{Completion, PortInfo, QpAddress, Rail, RailError, Read, Verbs, Window};
use super::sysfs::Remark;
use crate::base::NodeName;
use crate::buf::Slab;
use std::os::fd::BorrowedFd;

use bytes::Bytes;

/// No devices: there is no value of this type.
pub enum SystemVerbs {}

impl SystemVerbs {
    /// Never opens anything.
    ///
    /// # Errors
    /// Always: the build has no RDMA.
    pub fn load() -> Result<Self, Remark> {
        Err(Remark::new("this build has no RDMA", "build with the feature rdma"))
    }
}

impl Verbs for SystemVerbs {
    type Rail = NoRail;

    fn ports(&self) -> Vec<PortInfo> {
        match *self {}
    }

    fn open(&self, _: &PortInfo, _: &NodeName, _: &Slab) -> Result<NoRail, RailError> {
        match *self {}
    }
}

/// No open port: there is no value of this type.
pub enum NoRail {}

impl Rail for NoRail {
    fn create(&mut self, _: usize) -> Result<Vec<QpAddress>, RailError> {
        match *self {}
    }

    fn connect(&mut self, _: &PortInfo, _: &[QpAddress]) -> Result<(), RailError> {
        match *self {}
    }

    fn destroy(&mut self) {
        match *self {}
    }

    fn room(&self, _: usize) -> usize {
        match *self {}
    }

    fn read(&mut self, _: usize, _: u64, _: Read) -> Result<(), RailError> {
        match *self {}
    }

    fn open_window(&mut self, _: usize, _: u64, _: Vec<Bytes>) -> Result<Window, RailError> {
        match *self {}
    }

    fn close_window(&mut self, _: u64, _: u32) -> Result<(), RailError> {
        match *self {}
    }

    fn ring(&mut self) -> Result<(), RailError> {
        match *self {}
    }

    fn poll(&mut self, _: &mut Vec<Completion>) -> Result<(), RailError> {
        match *self {}
    }

    fn trouble(&mut self) -> Option<RailError> {
        match *self {}
    }

    fn is_up(&mut self) -> bool {
        match *self {}
    }

    fn arm(&mut self) -> Result<(), RailError> {
        match *self {}
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match *self {}
    }
}
