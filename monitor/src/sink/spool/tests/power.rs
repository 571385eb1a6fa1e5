//! Power that fails: what the disk was told to keep is there, and of what came later any part may be.
//!
//! A disk in memory notes each write, each change of length and each flush. From that the files are made that a cut at any
//! moment could leave: everything before the last flush, and of the later writes some sectors and not others.

use std::{
    fs, io,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use crate::{
    alert::{Timestamp, record::Dataset},
    sink::{
        delivery::{BatchLimits, Item},
        spool::{
            Config, item,
            store::{Change, Insert, Store, StoreError, StoreFile},
        },
    },
};

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;
/// Commits of one life of the daemon.
const COMMITS: u64 = 60;
/// Cuts that are tried of each.
const CUTS: u64 = 120;

/// Chance from a seed (`SplitMix64`, Steele, Lea and Flood 2014), so that each failure can be had again.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[derive(Debug)]
enum Operation {
    Write(usize, Vec<u8>),
    Resize(usize),
    Flush,
}

/// What was there when the power came, and what was done since.
#[derive(Debug, Default)]
struct Noted {
    before: Vec<u8>,
    now: Vec<u8>,
    operations: Vec<Operation>,
}

#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Noted>>);

impl Disk {
    fn with(content: &[u8]) -> Self {
        let noted = Noted { before: content.to_vec(), now: content.to_vec(), operations: Vec::new() };
        Self(Arc::new(Mutex::new(noted)))
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moment(&self) -> usize {
        self.noted().operations.len()
    }
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.noted().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let noted = self.noted();
        let range = offset as usize..offset as usize + out.len();
        out.copy_from_slice(noted.now.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut noted = self.noted();
        noted.now.resize(length as usize, 0);
        noted.operations.push(Operation::Resize(length as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.noted().operations.push(Operation::Flush);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut noted = self.noted();
        put(&mut noted.now, offset as usize, data);
        noted.operations.push(Operation::Write(offset as usize, data.to_vec()));
        Ok(())
    }
}

/// Writes as a file does: what lies beyond the end makes it longer.
fn put(content: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(data);
}

/// Operations before `moment` that a flush made safe.
fn safe(noted: &Noted, moment: usize) -> usize {
    let is_flush = |operation: &Operation| matches!(operation, Operation::Flush);
    noted.operations[..moment].iter().rposition(is_flush).map_or(0, |last| last + 1)
}

/// What a cut before operation `moment` leaves. `chance` decides for each sector that was not safe.
fn left_by_a_cut(noted: &Noted, moment: usize, safe: usize, chance: &mut Chance) -> Vec<u8> {
    let operations = &noted.operations[..moment];
    // Now and then nothing arrives, or everything.
    let arriving_percent = [0, 20, 50, 80, 100][chance.below(5) as usize];
    let mut content = noted.before.clone();
    for (index, operation) in operations.iter().enumerate() {
        let mut arrives = || index < safe || chance.below(100) < arriving_percent;
        match operation {
            Operation::Write(offset, data) => {
                let mut done = 0;
                while done < data.len() {
                    let to_boundary = SECTOR_BYTES - (offset + done) % SECTOR_BYTES;
                    let end = data.len().min(done + to_boundary);
                    if arrives() {
                        put(&mut content, offset + done, &data[done..end]);
                    }
                    done = end;
                }
            }
            Operation::Resize(length) => {
                if arrives() {
                    content.resize(*length, 0);
                }
            }
            Operation::Flush => {}
        }
    }
    content
}

/// What was promised at a moment: these numbers are kept.
type Promises = Vec<(usize, Range<u64>)>;

/// An item of any size up to some pages, which its number decides.
fn value(number: u64) -> Bytes {
    let size = 100 + Chance(number).below(3).pow(3) * 1_500;
    let item = Item {
        id: format!("id-{number}"),
        time: Timestamp::from_unix_ns(number.into()),
        dataset: Dataset::Alert,
        severity: Some(73),
        bytes: vec![number as u8; size as usize].into(),
    };
    item::encode(&item)
}

/// A life of the daemon on `disk`: records come, some of them are confirmed.
fn live(disk: &Disk, chance: &mut Chance) -> Promises {
    let store = Store::on(disk.clone()).expect("a store");
    let known = store.queues().expect("queues").into_iter().find(|(name, _)| name == "a");
    let totals = known.map(|(_, totals)| totals).unwrap_or_default();
    let (mut next, mut confirmed_below) = (totals.next, totals.next - totals.records);
    let mut promises = vec![(disk.moment(), confirmed_below..next)];
    for _ in 0..COMMITS {
        let count = chance.below(12);
        let inserts: Vec<_> =
            (next..next + count).map(|number| Insert { number, value: value(number), is_exempt: false }).collect();
        if chance.below(3) == 0 {
            confirmed_below += chance.below(next - confirmed_below + 1);
        }
        next += count;
        let step = Change {
            output: "a",
            confirmed_below,
            on_way_below: confirmed_below,
            bounds: Config::default().bounds(crate::sink::spool::OwnBounds::default()),
            inserts: &inserts,
            next,
        };
        store.commit(&[step]).expect("a commit");
        promises.push((disk.moment(), confirmed_below..next));
    }
    promises
}

/// Opens `content` as a start does, from a file or in memory. What is damaged is an error, because nothing promised may be.
fn open(content: &[u8], in_file: bool) -> Result<(Store, Option<tempfile::TempDir>), StoreError> {
    if !in_file {
        return Ok((Store::on(Disk::with(content))?, None));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = StoreFile::claim(directory.path()).expect("a directory of its own");
    fs::write(directory.path().join("spool.redb"), content).expect("written");
    match file.open()? {
        (store, None) => Ok((store, Some(directory))),
        (_, Some(put_aside)) => Err(StoreError::Damaged(put_aside.reason)),
    }
}

/// Looks in `content` for everything that was promised before `moment`.
fn look(content: &[u8], moment: usize, promises: &[(usize, Range<u64>)], in_file: bool, what: &str) {
    let due = promises.iter().rfind(|(at, _)| *at <= moment).map(|(_, numbers)| numbers.clone());
    // Before the first there is nothing to be lost, and perhaps no database yet.
    let Some(due) = due else { return };
    let (store, _directory) = open(content, in_file).unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut items = Vec::new();
    loop {
        let from = items.last().map_or(0, |(last, _)| last + 1);
        let (more, damaged) = store.read("a", from, BatchLimits::default()).expect("read");
        assert_eq!(damaged, 0, "{what}");
        if more.is_empty() {
            break;
        }
        items.extend(more);
    }
    let numbers: Vec<_> = items.iter().map(|(number, _)| *number).collect();
    if let (Some(first), Some(last)) = (numbers.first(), numbers.last()) {
        assert_eq!(numbers, (*first..=*last).collect::<Vec<_>>(), "{what}: in order and without gaps");
    }
    // What was confirmed later than the last flush may be gone already, and what came later may be there.
    let later = promises.iter().find(|(at, _)| *at > moment).map_or(due.start, |(_, later)| later.start);
    for number in due.clone().filter(|number| *number >= later) {
        assert!(numbers.contains(&number), "{what}: {number} of {due:?} is missing in {numbers:?}");
    }
    for (number, item) in &items {
        assert_eq!(item::encode(item), value(*number), "{what}: {number} is another record");
    }
    let totals = store.queues().expect("queues").into_iter().find(|(name, _)| name == "a");
    let totals = totals.map(|(_, totals)| totals).unwrap_or_default();
    assert_eq!(totals.records, numbers.len() as u64, "{what}");
    assert!(totals.next >= due.end, "{what}: numbers would be used twice");
}

#[test]
fn what_was_acknowledged_survives_a_loss_of_power() {
    let mut cuts = 0;
    for seed in 0..4 {
        let chance = &mut Chance(seed);
        let disk = Disk::default();
        let promises = live(&disk, chance);
        let first = disk.noted();
        for cut in 0..CUTS {
            let moment = chance.below(first.operations.len() as u64 + 1) as usize;
            let content = left_by_a_cut(&first, moment, safe(&first, moment), chance);
            look(&content, moment, &promises, cut % 4 == 0, &format!("seed {seed}, cut {cut}"));
            cuts += 1;
            // The next life begins with a repair, which is cut as well.
            if cut % 10 == 0 && promises.iter().any(|(at, _)| *at <= moment) {
                let disk = Disk::with(&content);
                let promises = live(&disk, chance);
                let second = disk.noted();
                // Before its first promise those of the life before count, which `look` has just seen: they are in it.
                let repaired = promises.first().map_or(0, |(at, _)| *at);
                for _ in 0..5 {
                    let moment = repaired + chance.below((second.operations.len() - repaired) as u64 + 1) as usize;
                    let content = left_by_a_cut(&second, moment, safe(&second, moment), chance);
                    look(&content, moment, &promises, false, &format!("seed {seed}, cut {cut} and another"));
                    cuts += 1;
                }
                let due = promises.first().map(|(_, numbers)| numbers.clone()).unwrap_or_default();
                for moment in 0..repaired {
                    let content = left_by_a_cut(&second, moment, safe(&second, moment), chance);
                    let what = format!("seed {seed}, cut {cut}, and another in the repair");
                    look(&content, moment, &[(0, due.clone())], false, &what);
                    cuts += 1;
                }
            }
        }
    }
    eprintln!("{cuts} cuts");
    assert!(cuts > 480, "{cuts}");
}

/// Without it, a look that finds nothing missing would show nothing.
#[test]
fn a_disk_that_keeps_less_than_it_says_is_found_out() {
    let chance = &mut Chance(7);
    let disk = Disk::default();
    let promises = live(&disk, chance);
    let noted = disk.noted();
    let half = noted.operations.len() / 2;
    let found = (0..40).filter(|cut| {
        let moment = half + chance.below(half as u64) as usize;
        // All that the last twenty commits or so wrote may be missing, flushed or not.
        let content = left_by_a_cut(&noted, moment, safe(&noted, moment) * 2 / 3, chance);
        std::panic::catch_unwind(|| look(&content, moment, &promises, false, &format!("cut {cut}"))).is_err()
    });
    let found = found.count();
    eprintln!("{found} of 40 lies");
    assert!(found >= 10, "{found} of 40 lies");
}
