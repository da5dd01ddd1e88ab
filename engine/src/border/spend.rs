//! What was spent of a budget in its time: a sum in a file that all processes of a home share.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};

use crate::base::Digest;
use crate::cost::Tally;

/// What such a file begins with.
const MAGIC: [u8; 8] = *b"PWSPEND1";
/// Bytes of such a file: magic, boot, sum.
const FILE_BYTES: usize = 40;
/// Files that nobody changed for so long are of a time that is over.
const KEPT: Duration = Duration::from_hours(62 * 24);

/// The sum of one budget in one time.
pub(super) struct Spend(File);

/// What became of a wish to spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Booked {
    /// It is spent.
    Done,
    /// Another process has the file at this moment.
    Held,
    /// It would be more than there is; so much is spent.
    Over(Tally),
}

impl Spend {
    /// Opens the sum. Where it is new, or was not written since the machine started and so may lack
    /// what the log has, it becomes what `found` finds in the log. Blocks.
    pub(super) fn open(path: &Path, found: impl FnOnce() -> io::Result<Tally>) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
            remove_old(dir);
        }
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        let spend = Self(file);
        flock(&spend.0, FlockOperation::LockExclusive)?;
        if spend.read().is_none() {
            spend.write(found()?)?;
        }
        flock(&spend.0, FlockOperation::Unlock)?;
        Ok(spend)
    }

    /// What is spent so far. Blocks.
    pub(super) fn spent(&self) -> io::Result<Tally> {
        flock(&self.0, FlockOperation::LockExclusive)?;
        let spent = self.read().unwrap_or_default();
        flock(&self.0, FlockOperation::Unlock)?;
        Ok(spent)
    }

    /// Spends `cost` if no more than `amount` is spent then.
    pub(super) fn book(&self, cost: Tally, amount: Tally) -> io::Result<Booked> {
        if flock(&self.0, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(Booked::Held);
        }
        let spent = self.read().unwrap_or_default();
        let sum = spent.plus(cost);
        let booked = if sum > amount {
            Booked::Over(spent)
        } else {
            self.write(sum)?;
            Booked::Done
        };
        flock(&self.0, FlockOperation::Unlock)?;
        Ok(booked)
    }

    /// Corrects the sum: instead of `booked`, `paid` was spent. Blocks.
    pub(super) fn settle(&self, booked: Tally, paid: Tally) -> io::Result<()> {
        flock(&self.0, FlockOperation::LockExclusive)?;
        let spent = self.read().unwrap_or_default();
        self.write(spent.plus(paid).minus(booked))?;
        flock(&self.0, FlockOperation::Unlock)?;
        Ok(())
    }

    fn read(&self) -> Option<Tally> {
        let mut bytes = [0; FILE_BYTES];
        self.0.read_exact_at(&mut bytes, 0).ok()?;
        let (head, sum) = bytes.split_last_chunk()?;
        (*head == [&MAGIC[..], &boot()].concat()).then(|| Tally::from_bytes(*sum))
    }

    fn write(&self, sum: Tally) -> io::Result<()> {
        self.0.write_all_at(&[&MAGIC[..], &boot(), &sum.to_bytes()].concat(), 0)
    }
}

/// Names the time since the machine started; the same for ever where the system has no such name.
fn boot() -> [u8; 16] {
    let name = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digest = Digest::of(&name);
    digest.0.first_chunk().copied().unwrap_or_default()
}

fn remove_old(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let changed = entry.metadata().and_then(|meta| meta.modified());
        let age = changed.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_some_and(|age| age > KEPT) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::Money;

    fn money(micros: u64) -> Tally {
        Money(micros).into()
    }

    #[test]
    fn a_sum_is_shared_and_ends_at_its_amount() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("spend/one");
        let one = Spend::open(&path, || Ok(money(5))).expect("opened");
        let other = Spend::open(&path, || panic!("it is there")).expect("opened");
        let book = |spend: &Spend, cost| spend.book(money(cost), money(10)).expect("read");
        assert_eq!(book(&one, 3), Booked::Done);
        assert_eq!(book(&other, 3), Booked::Over(money(8)));
        assert_eq!(book(&other, 2), Booked::Done);
        assert_eq!(book(&one, 1), Booked::Over(money(10)));
        one.settle(money(3), money(1)).expect("written");
        assert_eq!(other.spent().expect("read"), money(8));
        flock(&one.0, FlockOperation::NonBlockingLockExclusive).expect("locked");
        assert_eq!(book(&other, 1), Booked::Held);
    }

    #[test]
    fn a_sum_of_another_boot_is_found_again_in_the_log() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("one");
        for content in [&b""[..], b"PWSPEND1", &[7; FILE_BYTES]] {
            fs::write(&path, content).expect("written");
            let spend = Spend::open(&path, || Ok(money(4))).expect("opened");
            assert_eq!(spend.spent().expect("read"), money(4));
        }
        // What the log cannot tell is not taken for nothing.
        fs::write(&path, b"").expect("written");
        assert!(Spend::open(&path, || Err(io::ErrorKind::InvalidData.into())).is_err());
    }
}
