//! Threads with a runtime of their own: every server, client and peer of a bench is one of these, on whichever side it stands.

use std::fs;
use std::future::Future;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

/// The kinds of runtime that are measured.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Tasks run on the thread that waits for the kernel.
    CurrentThread,
    /// The multi-threaded runtime with one worker: as the agent is started.
    OneWorker,
}

impl Kind {
    /// What a figure calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CurrentThread => "current-thread",
            Self::OneWorker => "1 worker",
        }
    }

    fn build(self, name: &str) -> Runtime {
        let mut builder = match self {
            Self::CurrentThread => Builder::new_current_thread(),
            Self::OneWorker => Builder::new_multi_thread(),
        };
        builder.worker_threads(1).thread_name(name).enable_all().build().unwrap()
    }
}

/// A thread with a runtime, until it is dropped.
pub(crate) struct Side {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Side {
    /// Starts the thread, under a name that profiles show.
    pub(crate) fn start(name: &'static str, kind: Kind) -> Self {
        let (ready, handle) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let runtime = kind.build(name);
            ready.send(runtime.handle().clone()).unwrap();
            // Ends when the sender is dropped.
            let _ = runtime.block_on(stopped);
        });
        Self { handle: handle.recv().unwrap(), stop: Some(stop), thread: Some(thread.unwrap()) }
    }

    /// Runs something there to its end.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        self.spawn(async move {
            let _ = done.send(work.await);
        });
        result.recv().expect("the work has panicked")
    }

    /// Lets something run there for as long as the thread is there.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(work);
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// How long the threads of a side have run, in seconds, as the scheduler counts it: the first number of proc(5)'s schedstat.
pub(crate) fn time_of(side: &str) -> Option<f64> {
    let mut nanos = 0_u64;
    for task in fs::read_dir("/proc/self/task").ok()?.flatten() {
        let read = |name| fs::read_to_string(task.path().join(name)).ok();
        // A thread that has ended meanwhile was none that had much to do.
        if read("comm").is_some_and(|name| name.trim() == side) {
            let Some(times) = read("schedstat") else { continue };
            nanos += times.split(' ').next()?.parse::<u64>().ok()?;
        }
    }
    (nanos > 0).then(|| Duration::from_nanos(nanos).as_secs_f64())
}
