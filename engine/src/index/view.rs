//! Reading: the small tables as of one moment, and the way from a spot to a path.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{Database, Error, ReadOnlyTable, ReadTransaction, ReadableDatabase};

use super::entry::Spot;
use super::rows::BlockReader;
use super::tables::{BASES, FILES, META, base_row, damaged, file_key};
use crate::base::{PathError, RelPath};

/// Blocks that are kept in memory: about 3 MB, which is the paths of some 100,000 files.
const BLOCKS_MAX: usize = 4096;

/// Blocks of paths that were read, by base and first file. They never change: numbers of files and
/// bases are not given out twice, and whether a base is there is asked apart.
pub(super) type Blocks = BTreeMap<u64, Arc<[u8]>>;

/// The tables as of the moment when they are first asked.
pub(super) struct View<'a> {
    db: &'a Database,
    blocks: &'a Mutex<Blocks>,
    tables: Option<Tables>,
    /// The base that was asked for last, and whether it is there.
    last: Option<(u32, bool)>,
}

impl<'a> View<'a> {
    pub(super) fn new(db: &'a Database, blocks: &'a Mutex<Blocks>) -> Self {
        Self { db, blocks, tables: None, last: None }
    }

    /// The tables, opened if they were not.
    pub(super) fn tables(&mut self) -> Result<&mut Tables, Error> {
        if self.tables.is_none() {
            let txn = self.db.begin_read()?;
            self.tables = Some(Tables {
                bases: txn.open_table(BASES)?,
                files: txn.open_table(FILES)?,
                txn,
                base_paths: HashMap::new(),
                block: None,
                joined: Vec::new(),
            });
        }
        self.tables.as_mut().ok_or_else(damaged)
    }

    /// The path from the root of each spot's file; `None` if its base was dropped, or the spot
    /// forgotten.
    pub(super) fn paths(&mut self, spots: &[Spot]) -> Result<Vec<Option<RelPath>>, Error> {
        if spots.is_empty() {
            return Ok(Vec::new());
        }
        let blocks = self.blocks;
        let tables = self.tables()?;
        let mut blocks = blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut order: Vec<(u64, usize)> =
            spots.iter().map(|spot| file_key(spot.base, spot.file)).zip(0..).collect();
        order.sort_unstable();
        let mut paths = vec![None; spots.len()];
        let mut last: Option<(u64, usize)> = None;
        for (key, at) in order {
            if spots[at].is_forgotten() {
                continue;
            }
            paths[at] = match last {
                Some((same, known)) if same == key => paths[known].clone(),
                _ => tables.path(spots[at].base, spots[at].file, &mut blocks)?,
            };
            last = Some((key, at));
        }
        Ok(paths)
    }

    /// Whether the base is there. One that was made after this moment counts as there: a merge may
    /// meet its entries.
    pub(super) fn is_live(&mut self, base: u32) -> Result<bool, Error> {
        match self.last {
            Some((last, live)) if last == base => Ok(live),
            _ => {
                let tables = self.tables()?;
                let live = tables.base_path(base)?.is_some() || tables.is_later(base)?;
                self.last = Some((base, live));
                Ok(live)
            }
        }
    }
}

pub(super) struct Tables {
    pub(super) bases: ReadOnlyTable<u32, (u32, &'static [u8])>,
    files: ReadOnlyTable<u64, &'static [u8]>,
    txn: ReadTransaction,
    base_paths: HashMap<u32, Option<RelPath>>,
    /// The block that was read last, with its base and first file. Who asks for paths in the order
    /// of the files reads each block once.
    block: Option<(u32, u32, BlockReader)>,
    joined: Vec<u8>,
}

impl Tables {
    fn base_path(&mut self, base: u32) -> Result<Option<&RelPath>, Error> {
        if !self.base_paths.contains_key(&base) {
            let row = base_row(&self.bases, base)?;
            let path = row.map(|(_, path)| RelPath::from_bytes(&path)).transpose();
            self.base_paths.insert(base, path.map_err(|_| damaged())?);
        }
        Ok(self.base_paths.get(&base).and_then(Option::as_ref))
    }

    /// Whether the number of the base was not given out yet.
    fn is_later(&self, base: u32) -> Result<bool, Error> {
        let meta = self.txn.open_table(META)?;
        Ok(u64::from(base) >= meta.get("next_base")?.map_or(0, |next| next.value()))
    }

    /// The path of a file from the root, or `None` if its base was dropped.
    fn path(
        &mut self,
        base: u32,
        file: u32,
        blocks: &mut Blocks,
    ) -> Result<Option<RelPath>, Error> {
        if self.base_path(base)?.is_none() {
            return Ok(None);
        }
        self.seek(base, file, blocks)?;
        let Some(above) = self.base_paths.get(&base).and_then(Option::as_ref) else {
            return Ok(None);
        };
        let Some((_, first, reader)) = &mut self.block else { return Err(damaged()) };
        let below = reader.path(file - *first).ok_or_else(damaged)?;
        self.joined.clear();
        self.joined.extend_from_slice(above.as_bytes());
        if !above.is_root() && !below.is_empty() {
            self.joined.push(b'/');
        }
        self.joined.extend_from_slice(below);
        match RelPath::from_bytes(&self.joined) {
            Ok(path) => Ok(Some(path)),
            // A base may have moved so deep that some of its files have no path any more.
            Err(PathError::Deep) => Ok(None),
            Err(_) => Err(damaged()),
        }
    }

    /// Makes `block` one that has the file.
    fn seek(&mut self, base: u32, file: u32, blocks: &mut Blocks) -> Result<(), Error> {
        let ahead = self.block.as_ref().is_some_and(|(of, first, reader)| {
            *of == base && file.checked_sub(*first).is_some_and(|nth| reader.reaches(nth))
        });
        if ahead {
            return Ok(());
        }
        let all = file_key(base, 0)..=file_key(base, file);
        let within = |first: u64, reader: &BlockReader| reader.reaches(file - first as u32);
        if let Some((&first, block)) = blocks.range(all.clone()).next_back()
            && let Some(reader) = BlockReader::new(Arc::clone(block))
            && within(first, &reader)
        {
            self.block = Some((base, first as u32, reader));
            return Ok(());
        }
        let row = self.files.range(all)?.next_back();
        let (first, bytes) = row.ok_or_else(damaged)??;
        let block: Arc<[u8]> = bytes.value().into();
        if blocks.len() >= BLOCKS_MAX {
            blocks.clear();
        }
        blocks.insert(first.value(), Arc::clone(&block));
        let reader = BlockReader::new(block).ok_or_else(damaged)?;
        self.block = Some((base, first.value() as u32, reader));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    #[test]
    fn a_base_that_is_made_later_counts_as_there_and_a_dropped_one_does_not() {
        let db = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let change = |next: u64, base: Option<u32>| {
            let txn = db.begin_write().unwrap();
            txn.open_table(META).unwrap().insert("next_base", next).unwrap();
            txn.open_table(FILES).unwrap();
            let mut bases = txn.open_table(BASES).unwrap();
            bases.retain(|_, _| false).unwrap();
            if let Some(base) = base {
                bases.insert(base, (0, &b"a"[..])).unwrap();
            }
            drop(bases);
            txn.commit().unwrap();
        };
        let blocks = Mutex::default();
        change(1, Some(0));
        let mut before = View::new(&db, &blocks);
        assert!(before.is_live(0).unwrap());
        change(2, Some(1));
        assert!(before.is_live(1).unwrap() && before.is_live(0).unwrap());
        let mut after = View::new(&db, &blocks);
        assert!(after.is_live(1).unwrap() && !after.is_live(0).unwrap());
    }
}
