//! The driver library of `fake.c`, one for each test: what a test breaks, no other notices.

use std::ffi::{CStr, CString, c_char, c_int};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use tempfile::TempDir;

use crate::gpu::device::Gpu;
use crate::gpu::error::GpuError;
use crate::gpu::library::Driver;

/// Functions of `fake.c` for tests.
struct Control {
    fail: unsafe extern "C" fn(*const c_char, c_int, c_int),
    devices: unsafe extern "C" fn(c_int),
    dmabuf: unsafe extern "C" fn(c_int),
    page: unsafe extern "C" fn(u64),
    export_max: unsafe extern "C" fn(u64),
    violations: unsafe extern "C" fn() -> *const c_char,
    reached: unsafe extern "C" fn() -> u64,
    pending: unsafe extern "C" fn() -> c_int,
    exports: unsafe extern "C" fn() -> c_int,
    pins: unsafe extern "C" fn() -> c_int,
    live: unsafe extern "C" fn() -> c_int,
    read: unsafe extern "C" fn(u64, *mut u8, usize),
    file_offset: unsafe extern "C" fn(u64) -> u64,
}

/// A driver library of its own.
pub(crate) struct Fake {
    control: Control,
    path: PathBuf,
    _dir: TempDir,
}

/// Builds the library. `extra` are options of the compiler.
fn build(to: &Path, extra: &[&str]) {
    let source = to.with_extension("c");
    std::fs::write(&source, include_str!("fake.c")).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-pthread"]).args(extra);
    let built = compiler.arg("-o").args([to, &source]).output().expect("a C compiler");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

impl Fake {
    pub(crate) fn new() -> Self {
        static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
        let built = BUILT.get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("libcuda.so");
            build(&path, &[]);
            std::fs::read(path).unwrap()
        });
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("libcuda.so"), built).unwrap();
        Self::open(dir)
    }

    /// With options of the compiler.
    pub(super) fn variant(extra: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        build(&dir.path().join("libcuda.so"), extra);
        Self::open(dir)
    }

    fn open(dir: TempDir) -> Self {
        let path = dir.path().join("libcuda.so");
        // SAFETY: the library has no initialisers.
        let library = unsafe { libloading::Library::new(&path) }.unwrap();
        macro_rules! found {
            ($name:literal) => {{
                // SAFETY: the function has the type of its field.
                let found = unsafe { library.get(concat!($name, "\0").as_bytes()) };
                *found.unwrap()
            }};
        }
        let control = Control {
            fail: found!("fake_fail"),
            devices: found!("fake_devices"),
            dmabuf: found!("fake_dmabuf"),
            page: found!("fake_page"),
            export_max: found!("fake_export_max"),
            violations: found!("fake_violations"),
            reached: found!("fake_reached"),
            pending: found!("fake_pending"),
            exports: found!("fake_exports"),
            pins: found!("fake_pins"),
            live: found!("fake_live"),
            read: found!("fake_read"),
            file_offset: found!("fake_file_offset"),
        };
        std::mem::forget(library);
        Self { control, path, _dir: dir }
    }

    pub(super) fn driver(&self) -> Result<Arc<Driver>, GpuError> {
        Driver::open(&self.path)
    }

    pub(crate) fn gpu(&self) -> Gpu {
        Gpu::open_by(&self.driver().unwrap(), 0).unwrap()
    }

    /// `call` fails with `code` after it went well `after` times.
    pub(crate) fn fail(&self, call: &str, code: i32, after: i32) {
        let call = CString::new(call).unwrap();
        // SAFETY: a string that outlives the call.
        unsafe { (self.control.fail)(call.as_ptr(), code, after) }
    }

    pub(super) fn devices(&self, count: i32) {
        // SAFETY: sets a number.
        unsafe { (self.control.devices)(count) }
    }

    pub(crate) fn dmabuf(&self, supported: bool) {
        // SAFETY: sets a number.
        unsafe { (self.control.dmabuf)(c_int::from(supported)) }
    }

    pub(super) fn page(&self, bytes: u64) {
        // SAFETY: sets a number.
        unsafe { (self.control.page)(bytes) }
    }

    /// Larger exports are refused.
    pub(super) fn export_max(&self, bytes: u64) {
        // SAFETY: sets a number.
        unsafe { (self.control.export_max)(bytes) }
    }

    /// Bytes that were copied to the device.
    pub(super) fn reached(&self) -> u64 {
        // SAFETY: reads a number.
        unsafe { (self.control.reached)() }
    }

    /// Copies under way.
    pub(super) fn pending(&self) -> i32 {
        // SAFETY: reads a number.
        unsafe { (self.control.pending)() }
    }

    /// Exports that were made.
    pub(crate) fn exports(&self) -> i32 {
        // SAFETY: reads a number.
        unsafe { (self.control.exports)() }
    }

    /// Ranges of the host that are pinned.
    pub(super) fn pins(&self) -> i32 {
        // SAFETY: reads a number.
        unsafe { (self.control.pins)() }
    }

    /// Bytes of device memory.
    pub(super) fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        // SAFETY: there is room for as many bytes, and the address is of an allocation.
        unsafe { (self.control.read)(at, bytes.as_mut_ptr(), len) };
        bytes
    }

    /// Where an address is in the file that every export of the fake is.
    pub(super) fn file_offset(&self, at: u64) -> u64 {
        // SAFETY: computes a number.
        unsafe { (self.control.file_offset)(at) }
    }

    fn violations(&self) -> String {
        // SAFETY: gives the address of a static array.
        let text = unsafe { (self.control.violations)() };
        // SAFETY: the array always has an end.
        let text = unsafe { CStr::from_ptr(text) };
        text.to_string_lossy().into_owned()
    }

    /// Nothing was done that must not be done.
    pub(crate) fn assert_no_violation(&self) {
        assert_eq!(self.violations(), "");
    }

    /// As `assert_no_violation`, and everything was given back.
    pub(crate) fn assert_clean(&self) {
        self.assert_no_violation();
        // SAFETY: reads a number.
        assert_eq!(unsafe { (self.control.live)() }, 0, "something was not given back");
    }
}
