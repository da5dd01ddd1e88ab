//! Checks of GPUs: whether content can go to their memory, and how.

use super::{System, finding};
use crate::api::{Finding, Level};
use crate::base::human;
use crate::gpu::{GpuError, GpuInfo};

/// One calm line where there is none, else a line for each.
pub(super) fn gpus(gpus: &Result<Vec<GpuInfo>, GpuError>, system: &System) -> Vec<Finding> {
    let none =
        |why: &str, note: &str| vec![finding("gpu", Level::Ok, format!("no GPU{why}"), note)];
    match gpus {
        Ok(gpus) if gpus.is_empty() => none("", ""),
        Ok(gpus) => {
            let driver = driver(system);
            gpus.iter().map(|gpu| one(gpu, driver.as_deref())).collect()
        }
        Err(GpuError::NoLibrary { library, .. }) => {
            // Only where a GPU's kernel module is loaded is its library missed.
            let note = if driver(system).is_some() {
                "the kernel module nvidia is loaded: install the NVIDIA driver's libraries; in a \
                 container, give it the GPU (--gpus all)"
            } else {
                ""
            };
            none(&format!(": {library} is not on this machine, or does not load"), note)
        }
        Err(error) if error.is_absence() => none(&format!(": {error}"), ""),
        Err(error) => {
            let text = human::escaped(error.to_string().as_bytes());
            vec![finding("gpu", Level::Warn, format!("no GPU can be used: {text}"), error.fix())]
        }
    }
}

fn one(gpu: &GpuInfo, driver: Option<&str>) -> Finding {
    let mut parts = vec![human::escaped(gpu.name.as_bytes()), human::bytes(gpu.memory_bytes)];
    if let Some(driver) = driver {
        parts.push(format!("driver {}", human::escaped(driver.as_bytes())));
    }
    parts.push(format!("CUDA {}.{}", gpu.cuda.0, gpu.cuda.1));
    let (way, note) = if gpu.dmabuf {
        ("dmabuf: a NIC can be given its memory", "")
    } else {
        (
            "no dmabuf: content for its memory is staged through the slab",
            "a NIC can write to its memory with the open kernel modules of NVIDIA's driver 515 or \
             later",
        )
    };
    finding("gpu", Level::Ok, format!("{}: {}, {way}", gpu.index, parts.join(", ")), note)
}

/// The version of NVIDIA's kernel module, if it is loaded.
fn driver(system: &System) -> Option<String> {
    let version = std::fs::read_to_string(system.sys.join("module/nvidia/version")).ok()?;
    Some(version.trim().to_owned())
}

#[cfg(test)]
mod tests;
