//! The devices of a build without the feature `rdma`: none.

use super::plan::{Endpoint, Plan, Role};
use super::port::{Completion, PortInfo, QpAddress, Rail, RailError, Read, Verbs, Window};
use super::sysfs::Remark;
use crate::base::NodeName;
use crate::buf::{Lease, Slab};
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

    /// Never called.
    ///
    /// # Errors
    /// None.
    pub fn open_measured(&self, _: &PortInfo, _: &Slab) -> Result<MeasuredPort, RailError> {
        match *self {}
    }
}

/// No port to be measured: there is no value of this type.
pub struct MeasuredPort {
    none: SystemVerbs,
}

impl MeasuredPort {
    /// Never called.
    ///
    /// # Errors
    /// None.
    pub fn create(
        &mut self,
        _: &Plan,
        _: Role,
        _: impl Fn(&mut [u8]),
    ) -> Result<Vec<Endpoint>, RailError> {
        match self.none {}
    }

    /// Never called.
    ///
    /// # Errors
    /// None.
    pub fn connect(&mut self, _: &PortInfo, _: &[Endpoint]) -> Result<(), RailError> {
        match self.none {}
    }

    /// Never called.
    ///
    /// # Errors
    /// None.
    pub fn post(&mut self, _: usize) -> Result<(), RailError> {
        match self.none {}
    }

    /// Never called.
    ///
    /// # Errors
    /// None.
    pub fn poll(&mut self, _: impl FnMut(usize)) -> Result<(), RailError> {
        match self.none {}
    }

    /// Never called.
    pub fn destroy(&mut self) -> Vec<Lease> {
        match self.none {}
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
