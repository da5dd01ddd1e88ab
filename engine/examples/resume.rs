//! Fetches the newest complete checkpoint of a run, to go on from there.
//!
//! `cargo run --example resume -- cloud:runs/7 ckpt/` prints where it lies.

use std::path::{Path, PathBuf};

use portway::api::{Checkpoint, Engine, Error, TransferOptions};

/// Pulls the newest complete checkpoint of `runs` to `dir`, under its own name; `None` if there is
/// none yet.
///
/// # Errors
/// Those of [`Engine::latest`] and of a pull.
pub(crate) async fn resume(
    engine: &Engine,
    runs: &str,
    dir: &Path,
) -> Result<Option<(Checkpoint, PathBuf)>, Error> {
    let Some(newest) = engine.latest(&engine.remote(runs)?, None).await? else { return Ok(None) };
    let name = newest.remote.path.to_string();
    let local = dir.join(name.rsplit('/').next().unwrap_or(&name));
    let pull = engine.pull(newest.remote.clone(), local.clone(), TransferOptions::default());
    pull.wait().await?;
    Ok(Some((newest, local)))
}

#[allow(dead_code, reason = "the tests call the function above")]
#[tokio::main]
async fn main() -> Result<(), Error> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [runs, dir] = &words[..] else {
        eprintln!("usage: resume NODE:PATH DIR");
        std::process::exit(2);
    };
    match resume(&Engine::at_home(None)?, runs, Path::new(dir)).await? {
        Some((newest, local)) => println!("step {:?} in {}", newest.step, local.display()),
        None => println!("nothing is complete in {runs}"),
    }
    Ok(())
}
