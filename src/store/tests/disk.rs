//! A disk that fails when told to, and forgets at a power cut what was not brought onto it.

use std::io;
use std::sync::{Mutex, MutexGuard};

use redb::StorageBackend;

/// Like Linux: a write goes to memory, and waiting for the disk brings it there. When that waiting fails,
/// what was not brought there still reads as if it had been, and is never tried again.
#[derive(Debug, Default)]
pub(super) struct Disk(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    memory: Vec<u8>,
    disk: Vec<u8>,
    dirty: Vec<(usize, usize)>,
    /// Writes that still succeed, then those that fail; none when all succeed.
    fault: Option<(usize, usize)>,
}

impl Disk {
    pub(super) fn holding(bytes: Vec<u8>) -> Self {
        Self(Mutex::new(State {
            memory: bytes.clone(),
            disk: bytes,
            ..State::default()
        }))
    }

    /// After `good` more writes, `bad` ones fail.
    pub(super) fn fail(&self, good: usize, bad: usize) {
        self.lock().fault = Some((good, bad));
    }

    /// Nothing fails any more; returns whether something has failed.
    pub(super) fn heal(&self) -> bool {
        self.lock().fault.take().is_some_and(|(good, _)| good == 0)
    }

    /// Returns what is left when the power is cut.
    pub(super) fn after_power_cut(&self) -> Vec<u8> {
        self.lock().disk.clone()
    }

    /// Returns what is left when only the process is killed.
    pub(super) fn after_kill(&self) -> Vec<u8> {
        self.lock().memory.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn spend(&mut self) -> io::Result<()> {
        match &mut self.fault {
            None => Ok(()),
            Some((0, 0)) => Ok(()),
            Some((0, bad)) => {
                *bad -= 1;
                Err(io::ErrorKind::StorageFull.into())
            }
            Some((good, _)) => {
                *good -= 1;
                Ok(())
            }
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().memory.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.lock();
        let from = offset as usize;
        let bytes = state.memory.get(from..from + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.lock();
        state.spend()?;
        state.memory.resize(len as usize, 0);
        state.disk.resize(len as usize, 0);
        state.dirty.retain(|(from, to)| from.max(to) <= &(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.lock();
        let dirty = std::mem::take(&mut state.dirty);
        state.spend()?;
        let State { memory, disk, .. } = &mut *state;
        for (from, to) in dirty {
            disk[from..to].copy_from_slice(&memory[from..to]);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        state.spend()?;
        let range = offset as usize..offset as usize + data.len();
        state.memory[range.clone()].copy_from_slice(data);
        state.dirty.push((range.start, range.end));
        Ok(())
    }
}
