//! What stands between the database and its file when the file has failed.
//!
//! After a failed write redb wants to be closed and opened again, and opening writes. A full disk refuses
//! that too, so until it is cured the database is opened over a layer that keeps what is written in
//! memory and leaves the file as it is: reads go on, of what the file holds.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

/// The unit in which the layer keeps what was written, and in which a file is written again: redb's
/// page.
const BLOCK_BYTES: usize = 4096;

/// A file as redb sees it.
#[derive(Debug)]
pub(super) enum Pages {
    /// As it is.
    Direct(Arc<dyn StorageBackend>),
    /// Without writing to it.
    Layered(Layered),
}

/// A file that is only read, under a layer of what was written.
#[derive(Debug)]
pub(super) struct Layered {
    file: Arc<dyn StorageBackend>,
    layer: Mutex<Layer>,
}

#[derive(Debug)]
struct Layer {
    len: u64,
    /// How far the file is seen; what lies behind was cut off or never there, and reads as zeros.
    visible: u64,
    blocks: HashMap<u64, Box<[u8]>>,
}

impl Pages {
    /// Returns a view of a file which leaves it as it is.
    pub(super) fn layered(file: Arc<dyn StorageBackend>) -> io::Result<Self> {
        let len = file.len()?;
        let layer = Layer {
            len,
            visible: len,
            blocks: HashMap::new(),
        };
        Ok(Self::Layered(Layered {
            file,
            layer: Mutex::new(layer),
        }))
    }
}

impl StorageBackend for Pages {
    fn len(&self) -> io::Result<u64> {
        match self {
            Self::Direct(file) => file.len(),
            Self::Layered(layered) => Ok(layered.lock().len),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Direct(file) => file.read(offset, out),
            Self::Layered(layered) => layered.read(offset, out),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        match self {
            Self::Direct(file) => file.set_len(len),
            Self::Layered(layered) => {
                layered.set_len(len);
                Ok(())
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        match self {
            Self::Direct(file) => file.sync_data(),
            Self::Layered(_) => Ok(()),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Direct(file) => file.write(offset, data),
            Self::Layered(layered) => layered.write(offset, data),
        }
    }
}

impl Layered {
    /// Every change under this lock is whole before anything can panic.
    fn lock(&self) -> MutexGuard<'_, Layer> {
        self.layer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let layer = self.lock();
        if offset.saturating_add(out.len() as u64) > layer.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (index, within, part) in parts(offset, out.len()) {
            let target = &mut out[part];
            match layer.blocks.get(&index) {
                Some(block) => target.copy_from_slice(&block[within..within + target.len()]),
                None => self.read_file(&layer, index * BLOCK_BYTES as u64 + within as u64, target)?,
            }
        }
        Ok(())
    }

    fn read_file(&self, layer: &Layer, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = layer.visible.saturating_sub(offset).min(out.len() as u64) as usize;
        out[there..].fill(0);
        if there > 0 {
            self.file.read(offset, &mut out[..there])?;
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut layer = self.lock();
        for (index, within, part) in parts(offset, data.len()) {
            if !layer.blocks.contains_key(&index) {
                let mut block = vec![0; BLOCK_BYTES].into_boxed_slice();
                self.read_file(&layer, index * BLOCK_BYTES as u64, &mut block)?;
                layer.blocks.insert(index, block);
            }
            if let Some(block) = layer.blocks.get_mut(&index) {
                block[within..within + part.len()].copy_from_slice(&data[part]);
            }
        }
        layer.len = layer.len.max(offset + data.len() as u64);
        Ok(())
    }

    fn set_len(&self, len: u64) {
        let mut layer = self.lock();
        layer.len = len;
        layer.visible = layer.visible.min(len);
        layer.blocks.retain(|index, block| {
            let kept = len.saturating_sub(index * BLOCK_BYTES as u64);
            if let Some(cut) = usize::try_from(kept).ok().and_then(|kept| block.get_mut(kept..)) {
                cut.fill(0);
            }
            kept > 0
        });
    }
}

/// Returns the blocks that a range touches: the index of each, where in it the range begins, and which part
/// of the range lies in it.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % BLOCK_BYTES as u64) as usize;
        let count = (BLOCK_BYTES - within).min(len - done);
        done += count;
        Some((at / BLOCK_BYTES as u64, within, done - count..done))
    })
}

/// Writes all of a file once more, as it reads, and waits until it is on the disk.
///
/// When waiting for the disk fails, Linux takes what it could not write for written, and shows it until
/// the memory is needed otherwise. A database opened again would believe in it. Blocks of zeros are left
/// out, since they may be holes, for which a full disk has no room.
pub(super) fn write_again(file: &dyn StorageBackend) -> io::Result<()> {
    let len = file.len()?;
    let mut block = [0; BLOCK_BYTES];
    let mut offset = 0;
    while offset < len {
        let part = &mut block[..(len - offset).min(BLOCK_BYTES as u64) as usize];
        file.read(offset, part)?;
        if part.iter().any(|byte| *byte != 0) {
            file.write(offset, part)?;
        }
        offset += part.len() as u64;
    }
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redb::backends::InMemoryBackend;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Write(u64, usize),
        SetLen(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..40_000u64, 1..9_000usize).prop_map(|(offset, len)| Step::Write(offset, len)),
            (0..50_000u64).prop_map(Step::SetLen),
        ];
        prop::collection::vec(step, 0..20)
    }

    fn all(backend: &dyn StorageBackend) -> Vec<u8> {
        let mut bytes = vec![0; backend.len().unwrap() as usize];
        backend.read(0, &mut bytes).unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn a_layered_file_reads_like_a_written_one_and_stays_as_it_is(steps in steps()) {
            let original: Vec<u8> = (0..30_000usize).map(|at| (at % 251) as u8).collect();
            let file = Arc::new(InMemoryBackend::new());
            file.set_len(original.len() as u64).unwrap();
            file.write(0, &original).unwrap();
            let pages = Pages::layered(file.clone()).unwrap();
            let mut expected = original.clone();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Write(offset, len) => {
                        let end = offset as usize + len;
                        if expected.len() < end {
                            expected.resize(end, 0);
                            pages.set_len(end as u64).unwrap();
                        }
                        let data = vec![number as u8 + 1; len];
                        expected[offset as usize..end].copy_from_slice(&data);
                        pages.write(offset, &data).unwrap();
                    }
                    Step::SetLen(len) => {
                        expected.resize(len as usize, 0);
                        pages.set_len(len).unwrap();
                    }
                }
                prop_assert_eq!(&all(&pages), &expected);
            }
            prop_assert_eq!(all(&*file), original);
        }
    }
}
