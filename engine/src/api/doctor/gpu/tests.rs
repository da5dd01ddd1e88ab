//! What is said of GPUs: none, some, broken.

use super::*;

fn system(version: Option<&str>) -> (tempfile::TempDir, System) {
    let dir = tempfile::tempdir().unwrap();
    if let Some(version) = version {
        std::fs::create_dir_all(dir.path().join("module/nvidia")).unwrap();
        std::fs::write(dir.path().join("module/nvidia/version"), version).unwrap();
    }
    let system = System { sys: dir.path().into(), ..System::default() };
    (dir, system)
}

fn shown(given: &Result<Vec<GpuInfo>, GpuError>, version: Option<&str>) -> Vec<String> {
    let (_dir, system) = system(version);
    let line = |f: Finding| format!("{:?} {}: {} [{}]", f.level, f.check, f.finding, f.fix);
    gpus(given, &system).into_iter().map(line).collect()
}

fn gpu(index: usize, dmabuf: bool) -> GpuInfo {
    let name = "NVIDIA H100 80GB HBM3".to_owned();
    GpuInfo { index, name, memory_bytes: 85_045_805_056, dmabuf, cuda: (12, 4) }
}

#[test]
fn no_gpu_is_one_line_without_alarm() {
    assert_eq!(shown(&Ok(vec![]), None), ["Ok gpu: no GPU []"]);
    let why = "no such file".to_owned();
    let missing = Err(GpuError::NoLibrary { library: "libcuda.so.1".to_owned(), why });
    assert_eq!(
        shown(&missing, None),
        ["Ok gpu: no GPU: libcuda.so.1 is not on this machine, or does not load []"]
    );
    let with_module = shown(&missing, Some("550.54.15\n"));
    assert!(with_module[0].contains("[the kernel module nvidia is loaded"), "{with_module:?}");
    let words = "no CUDA-capable device is detected".to_owned();
    let none = Err(GpuError::Driver { call: "cuInit", code: 100, words });
    assert_eq!(
        shown(&none, None),
        ["Ok gpu: no GPU: cuInit: no CUDA-capable device is detected (CUDA error 100) []"]
    );
}

#[test]
fn gpus_are_named_with_what_their_memory_can_do() {
    assert_eq!(
        shown(&Ok(vec![gpu(0, true), gpu(1, false)]), Some("550.54.15\n")),
        [
            "Ok gpu: 0: NVIDIA H100 80GB HBM3, 85.0 GB, driver 550.54.15, CUDA 12.4, dmabuf: a NIC \
             can be given its memory []",
            "Ok gpu: 1: NVIDIA H100 80GB HBM3, 85.0 GB, driver 550.54.15, CUDA 12.4, no dmabuf: \
             content for its memory is staged through the slab [a NIC can write to its memory with \
             the open kernel modules of NVIDIA's driver 515 or later]",
        ]
    );
}

#[test]
fn a_driver_that_does_not_work_comes_with_a_fix() {
    let words = "system has unsupported display driver / cuda driver combination".to_owned();
    let broken = Err(GpuError::Driver { call: "cuInit", code: 803, words });
    let text = shown(&broken, None);
    assert!(text[0].starts_with("Warn gpu: no GPU can be used: cuInit: system has"), "{text:?}");
    assert!(text[0].ends_with("reboot]"), "{text:?}");
    let library = "libcuda.so.1".to_owned();
    let old = Err(GpuError::TooOld { library, function: "cuStreamCreate" });
    let text = shown(&old, None);
    assert!(text[0].starts_with("Warn ") && text[0].contains("515 (CUDA 11.7)"), "{text:?}");
}
