//! The index's tables, and what is done to them inside a transaction.

use std::collections::HashMap;

use redb::{Error, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::FileChunks;
use super::rows::{Block, Spot, Spots};

/// Version of the tables below.
pub(super) const VERSION: u64 = 1;

/// Single numbers. Its shape stays the same in every version.
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// Base to the files numbered in it so far and its path.
pub(super) const BASES: TableDefinition<u32, (u32, &[u8])> = TableDefinition::new("bases");
/// A base's path to the base.
pub(super) const BASE_IDS: TableDefinition<&[u8], u32> = TableDefinition::new("base_ids");
/// Base and first file (see [`file_key`]) to a [`Block`] of paths relative to the base.
pub(super) const FILES: TableDefinition<u64, &[u8]> = TableDefinition::new("files");
/// Short digest to [`Spots`].
pub(super) const CHUNKS: TableDefinition<u128, &[u8]> = TableDefinition::new("chunks");

/// Tells which bases are there, asking the table once for each.
pub(super) struct Live<'a, T: ReadableTable<u32, (u32, &'static [u8])>> {
    bases: &'a T,
    known: HashMap<u32, bool>,
}

impl<'a, T: ReadableTable<u32, (u32, &'static [u8])>> Live<'a, T> {
    pub(super) fn new(bases: &'a T) -> Self {
        Self { bases, known: HashMap::new() }
    }

    fn has(&mut self, base: u32) -> Result<bool, Error> {
        if let Some(&known) = self.known.get(&base) {
            return Ok(known);
        }
        let live = self.bases.get(base)?.is_some();
        self.known.insert(base, live);
        Ok(live)
    }

    /// The spots in bases that are there.
    pub(super) fn only(&mut self, spots: &Spots) -> Result<Option<Spots>, Error> {
        for spot in spots.iter() {
            self.has(spot.base)?;
        }
        Ok(spots.retain(|spot| self.known.get(&spot.base) == Some(&true)))
    }
}

pub(super) fn insert_files<'a>(
    txn: &WriteTransaction,
    base: u32,
    first: u32,
    files: impl Iterator<Item = &'a FileChunks<'a>>,
) -> Result<(), Error> {
    let mut table = txn.open_table(FILES)?;
    let mut first = first;
    let mut block = Block::default();
    for file in files {
        if block.push(&file.path) {
            table.insert(file_key(base, first), &block.bytes[..])?;
            first += block.files;
            block = Block::default();
        }
    }
    if block.files > 0 {
        table.insert(file_key(base, first), &block.bytes[..])?;
    }
    Ok(())
}

/// Puts new spots, all of one base, before what is known of their chunks.
pub(super) fn insert_spots(
    txn: &WriteTransaction,
    bases: &impl ReadableTable<u32, (u32, &'static [u8])>,
    spots: &[(u128, Spot)],
) -> Result<(), Error> {
    let mut chunks = txn.open_table(CHUNKS)?;
    let mut live = Live::new(bases);
    let mut bytes = Vec::new();
    for &(short, first) in spots {
        let old = chunks.get(short)?.map(|row| decode(row.value())).transpose()?;
        let old = match old {
            Some(old) => live.only(&old)?,
            None => None,
        };
        let second = old.and_then(|old| old.iter().find(|spot| spot.base != first.base));
        bytes.clear();
        Spots { first, second }.encode(&mut bytes);
        chunks.insert(short, &bytes[..])?;
    }
    Ok(())
}

pub(super) fn replace(
    chunks: &mut Table<'_, u128, &'static [u8]>,
    short: u128,
    spots: Option<Spots>,
) -> Result<(), Error> {
    if let Some(spots) = spots {
        let mut bytes = Vec::new();
        spots.encode(&mut bytes);
        chunks.insert(short, &bytes[..])?;
    } else {
        chunks.remove(short)?;
    }
    Ok(())
}

pub(super) fn remove_files(txn: &WriteTransaction, base: u32) -> Result<(), Error> {
    let all = file_key(base, 0)..=file_key(base, u32::MAX);
    Ok(txn.open_table(FILES)?.retain_in(all, |_, _| false)?)
}

/// A base's count of files and path, copied out of the table.
pub(super) fn base_row(
    bases: &impl ReadableTable<u32, (u32, &'static [u8])>,
    base: u32,
) -> Result<Option<(u32, Vec<u8>)>, Error> {
    Ok(bases.get(base)?.map(|row| {
        let (files, path) = row.value();
        (files, path.to_vec())
    }))
}

pub(super) fn file_key(base: u32, file: u32) -> u64 {
    u64::from(base) << 32 | u64::from(file)
}

pub(super) fn decode(row: &[u8]) -> Result<Spots, Error> {
    Spots::decode(row).ok_or_else(damaged)
}

pub(super) fn damaged() -> Error {
    Error::Corrupted("a row does not decode".to_owned())
}
