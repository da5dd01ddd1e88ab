//! A GPU: what it is, and the context in which everything about its memory happens.

use std::ffi::{CStr, c_int, c_void};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::error::GpuError;
use super::library::{Driver, Entries, Handle};

/// `CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED` (`cuda.h` of CUDA 11.7).
const DMA_BUF_SUPPORTED: c_int = 124;
/// Room for a device's name, in bytes.
const NAME_BYTES: c_int = 256;
/// GPUs of one machine that are looked at.
const GPUS_MAX: usize = 64;

/// What a GPU says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuInfo {
    /// Its number at this process, from 0: `CUDA_VISIBLE_DEVICES` changes it.
    pub index: usize,
    /// Its name, such as `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// Whether its memory can be exported as a dmabuf.
    pub dmabuf: bool,
    /// The newest CUDA that the driver knows: major, minor.
    pub cuda: (u32, u32),
}

/// All GPUs of this process. No context is made, so nothing of a GPU is taken.
///
/// # Errors
/// There is no driver, it is too old, or it does not work.
pub fn survey() -> Result<Vec<GpuInfo>, GpuError> {
    let driver = Driver::load()?;
    survey_by(&driver)
}

pub(super) fn survey_by(driver: &Driver) -> Result<Vec<GpuInfo>, GpuError> {
    let count = count(driver)?.min(GPUS_MAX);
    (0..count).map(|index| Ok(look(driver, index)?.1)).collect()
}

fn count(driver: &Driver) -> Result<usize, GpuError> {
    let mut count = 0;
    // SAFETY: the pointer is to a number that outlives the call.
    let code = unsafe { (driver.entries.cuDeviceGetCount)(&raw mut count) };
    driver.check("cuDeviceGetCount", code)?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// The driver's number for a GPU, and what it says of itself.
fn look(driver: &Driver, index: usize) -> Result<(c_int, GpuInfo), GpuError> {
    let entries = &driver.entries;
    let (mut device, mut memory, mut dmabuf, mut cuda) = (0, 0, 0, 0);
    let mut name = [0_u8; NAME_BYTES as usize];
    let ordinal = c_int::try_from(index).unwrap_or(c_int::MAX);
    // SAFETY: the pointer is to a number that outlives the call.
    let code = unsafe { (entries.cuDeviceGet)(&raw mut device, ordinal) };
    driver.check("cuDeviceGet", code)?;
    // One byte less than there are, so the string has an end.
    let room = NAME_BYTES - 1;
    // SAFETY: the array has more room than is said, and outlives the call.
    let code = unsafe { (entries.cuDeviceGetName)(name.as_mut_ptr().cast(), room, device) };
    driver.check("cuDeviceGetName", code)?;
    // SAFETY: as for `cuDeviceGet`.
    let code = unsafe { (entries.cuDeviceTotalMem_v2)(&raw mut memory, device) };
    driver.check("cuDeviceTotalMem", code)?;
    // SAFETY: as above.
    let code = unsafe { (entries.cuDriverGetVersion)(&raw mut cuda) };
    driver.check("cuDriverGetVersion", code)?;
    // A driver that does not know the attribute refuses it: no dmabuf.
    // SAFETY: as above.
    let code =
        unsafe { (entries.cuDeviceGetAttribute)(&raw mut dmabuf, DMA_BUF_SUPPORTED, device) };
    let name = CStr::from_bytes_until_nul(&name).unwrap_or_default();
    let cuda = u32::try_from(cuda).unwrap_or(0);
    let info = GpuInfo {
        index,
        name: name.to_string_lossy().into_owned(),
        memory_bytes: memory as u64,
        dmabuf: code == 0 && dmabuf != 0,
        cuda: (cuda / 1000, cuda % 1000 / 10),
    };
    Ok((device, info))
}

/// A GPU that is open. Clones share it; everything made with it keeps it.
#[derive(Clone)]
pub struct Gpu(Arc<Context>);

/// The device's primary context: the one that frameworks in the same process use too.
struct Context {
    driver: Arc<Driver>,
    device: c_int,
    raw: Handle,
    info: GpuInfo,
}

impl Gpu {
    /// Opens GPU `index`, from 0. This takes some hundred MB of its memory, and can take seconds.
    ///
    /// # Errors
    /// There is no driver or no such GPU, the driver is too old, or the GPU does not work.
    pub fn open(index: usize) -> Result<Self, GpuError> {
        Self::open_by(&Driver::load()?, index)
    }

    pub(super) fn open_by(driver: &Arc<Driver>, index: usize) -> Result<Self, GpuError> {
        let count = count(driver)?;
        if index >= count {
            return Err(GpuError::NoSuchGpu { index, count });
        }
        let (device, info) = look(driver, index)?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: a device of the driver, and a pointer to a pointer that outlives the call.
        let code = unsafe { (driver.entries.cuDevicePrimaryCtxRetain)(&raw mut raw, device) };
        driver.check("cuDevicePrimaryCtxRetain", code)?;
        let raw = Handle::new("cuDevicePrimaryCtxRetain", raw)?;
        Ok(Self(Arc::new(Context { driver: Arc::clone(driver), device, raw, info })))
    }

    /// What it says of itself.
    pub fn info(&self) -> &GpuInfo {
        &self.0.info
    }

    /// Whether both are the same open GPU.
    pub fn is(&self, other: &Self) -> bool {
        self.0.raw.raw() == other.0.raw.raw()
    }

    pub(super) fn driver(&self) -> &Arc<Driver> {
        &self.0.driver
    }

    /// Makes one call in the GPU's context.
    pub(super) fn call(
        &self,
        name: &'static str,
        call: impl FnOnce(&Entries) -> u32,
    ) -> Result<(), GpuError> {
        let code = self.code(call)?;
        self.0.driver.check(name, code)
    }

    /// As `call`, with the `CUresult` as it is.
    pub(super) fn code(&self, call: impl FnOnce(&Entries) -> u32) -> Result<u32, GpuError> {
        let _entered = Entered::new(&self.0)?;
        Ok(call(&self.0.driver.entries))
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu {} ({})", self.0.info.index, self.0.info.name)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once, in `open_by`; what was made in the context kept it.
        let code = unsafe { (self.driver.entries.cuDevicePrimaryCtxRelease_v2)(self.device) };
        if let Err(error) = self.driver.check("cuDevicePrimaryCtxRelease", code) {
            tracing::warn!(gpu = self.info.name, %error, "a GPU could not be closed");
        }
    }
}

/// The context is this thread's current one; before and after, another may be.
struct Entered<'a> {
    context: &'a Context,
    /// Contexts are a matter of threads.
    _here: PhantomData<*const ()>,
}

impl<'a> Entered<'a> {
    fn new(context: &'a Context) -> Result<Self, GpuError> {
        // SAFETY: a retained context.
        let code = unsafe { (context.driver.entries.cuCtxPushCurrent_v2)(context.raw.raw()) };
        context.driver.check("cuCtxPushCurrent", code)?;
        Ok(Self { context, _here: PhantomData })
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut popped: *mut c_void = std::ptr::null_mut();
        // SAFETY: the pointer is to a pointer that outlives the call; this thread pushed one.
        let code = unsafe { (self.context.driver.entries.cuCtxPopCurrent_v2)(&raw mut popped) };
        if code != 0 {
            tracing::warn!(code, "a GPU context stays current");
        }
    }
}
