//! Reads the shards of a data set in order, while later ones are still on their way.
//!
//! `cargo run --example stage -- onprem:datasets/tokens /nvme/tokens shard-0 shard-1`

use std::path::Path;

use portway::api::{Engine, Error, StageOptions};

/// Stages `names` in this order and counts the bytes of each as soon as it is there.
///
/// # Errors
/// Those of [`Engine::stage`] and of the pull of a file.
pub(crate) async fn count(
    engine: &Engine,
    source: &str,
    target: &Path,
    names: Vec<String>,
) -> Result<u64, Error> {
    let options = StageOptions { order: Some(names.clone()), ..StageOptions::default() };
    let stage = engine.stage(engine.remote(source)?, target.to_owned(), options).await?;
    let mut bytes = 0;
    for name in &names {
        let shard = stage.path(name).await?;
        bytes += std::fs::metadata(shard).map_or(0, |meta| meta.len());
    }
    Ok(bytes)
}

#[allow(dead_code, reason = "the tests call the function above")]
#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut words = std::env::args().skip(1);
    let (Some(source), Some(target)) = (words.next(), words.next()) else {
        eprintln!("usage: stage NODE:PATH DIR NAME...");
        std::process::exit(2);
    };
    let engine = Engine::at_home(None)?;
    let bytes = count(&engine, &source, Path::new(&target), words.collect()).await?;
    println!("{bytes} bytes");
    Ok(())
}
