//! Operations by threads, where io_uring is forbidden: a few per disk, so that a disk that hangs holds only
//! its own.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use super::work::{Finished, Job, Work};

/// Stack of a worker: it calls the kernel and little else.
const STACK_BYTES: usize = 256 << 10;

/// The workers of all disks.
pub(super) struct Threads {
    per_disk: u32,
    groups: Vec<Option<Arc<Group>>>,
    ended: Arc<Ended>,
    in_flight: usize,
}

/// What workers hand back; the descriptor is readable while there is something.
struct Ended {
    list: Mutex<Vec<Finished>>,
    wake: OwnedFd,
}

/// The workers of one disk.
struct Group {
    queue: Mutex<Queue>,
    more: Condvar,
}

struct Queue {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A push or a pop is the only use: what is inside stays whole whatever panics elsewhere.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Threads {
    pub(super) fn new(per_disk: u32) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let ended = Arc::new(Ended { list: Mutex::new(Vec::new()), wake });
        Ok(Self { per_disk, groups: Vec::new(), ended, in_flight: 0 })
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.ended.wake.as_fd()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Starts the workers of a disk.
    pub(super) fn add_disk(&mut self, disk: u32) -> io::Result<()> {
        let group = Arc::new(Group {
            queue: Mutex::new(Queue { jobs: VecDeque::new(), is_closed: false }),
            more: Condvar::new(),
        });
        let index = disk as usize;
        if self.groups.len() <= index {
            self.groups.resize_with(index + 1, || None);
        }
        for number in 0..self.per_disk {
            let (group, ended) = (group.clone(), self.ended.clone());
            let name = format!("disk{disk}-{number}");
            thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || work(&group, &ended))?;
        }
        if let Some(old) = self.groups[index].replace(group) {
            close(&old);
        }
        Ok(())
    }

    /// Lets the workers of a disk end when they have done what they were given.
    pub(super) fn remove_disk(&mut self, disk: u32) {
        if let Some(group) = self.groups.get_mut(disk as usize).and_then(Option::take) {
            close(&group);
        }
    }

    #[allow(clippy::result_large_err, reason = "a box per operation is what this avoids")]
    pub(super) fn start(&mut self, job: Job) -> Result<(), Job> {
        let Some(Some(group)) = self.groups.get(job.disk as usize) else { return Err(job) };
        lock(&group.queue).jobs.push_back(job);
        group.more.notify_one();
        self.in_flight += 1;
        Ok(())
    }

    pub(super) fn finish(&mut self, out: &mut Vec<Finished>) {
        let mut list = lock(&self.ended.list);
        if list.is_empty() {
            return;
        }
        let mut count = [0; 8];
        // Emptied under the lock, so that it is readable exactly while the list is not empty.
        let _ = rustix::io::read(&self.ended.wake, &mut count);
        self.in_flight -= list.len();
        out.append(&mut list);
    }

    /// Waits until nothing is in flight or the time is over; whether nothing is.
    pub(super) fn drain(&mut self, timeout: Duration, out: &mut Vec<Finished>) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            self.finish(out);
            let left = deadline.saturating_duration_since(Instant::now());
            if self.in_flight == 0 || left.is_zero() {
                return self.in_flight == 0;
            }
            let timeout =
                rustix::event::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            let mut wait = [rustix::event::PollFd::new(&self.ended.wake, rustix::event::PollFlags::IN)];
            let _ = rustix::event::poll(&mut wait, Some(&timeout));
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for group in self.groups.iter().flatten() {
            close(group);
        }
    }
}

fn close(group: &Group) {
    lock(&group.queue).is_closed = true;
    group.more.notify_all();
}

fn work(group: &Group, ended: &Ended) {
    loop {
        let mut queue = lock(&group.queue);
        let mut job = loop {
            if let Some(job) = take(&mut queue.jobs) {
                break job;
            }
            if queue.is_closed {
                return;
            }
            queue = group.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
        };
        drop(queue);
        let result = job.run();
        let mut list = lock(&ended.list);
        list.push(Finished { job, result });
        // Fails only when 2^64 - 1 wake-ups are pending; then it is readable already.
        let _ = rustix::io::write(&ended.wake, &1_u64.to_ne_bytes());
    }
}

/// The next job: first what somebody's flush or mark waits for.
fn take(jobs: &mut VecDeque<Job>) -> Option<Job> {
    let urgent = jobs.iter().position(|job| matches!(job.work, Work::WriteDurable { .. }));
    match urgent {
        Some(at) => jobs.remove(at),
        None => jobs.pop_front(),
    }
}
