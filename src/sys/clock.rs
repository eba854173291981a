//! The host's clocks. clock_gettime(2), timerfd_create(2).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};

use crate::model::errno::Errno;
use crate::model::time::{Clock, TimeAnchor, Timestamp};

/// The clock of this agent: CLOCK_BOOTTIME plus an offset that is taken once.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    anchor: TimeAnchor,
}

impl SystemClock {
    /// Takes the offset from the host's clocks as they are now.
    pub fn start() -> Self {
        Self { anchor: TimeAnchor::new(realtime_nanos(), boottime_nanos()) }
    }

    /// How far CLOCK_REALTIME is ahead of this clock, in nanoseconds.
    pub fn ahead_nanos(&self) -> i64 {
        self.anchor.ahead_nanos(realtime_nanos(), boottime_nanos())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.anchor.at(boottime_nanos())
    }

    fn at_realtime(&self, nanos: i64) -> Timestamp {
        // CLOCK_REALTIME is read first, so that nothing of the past comes out later than what is told to be now afterwards.
        Timestamp::from_nanos(nanos).shifted(self.ahead_nanos().saturating_neg())
    }
}

/// CLOCK_REALTIME, in nanoseconds since the epoch.
pub fn realtime_nanos() -> i64 {
    nanos(clock_gettime(ClockId::Realtime))
}

/// CLOCK_BOOTTIME, in nanoseconds since the host was started.
pub fn boottime_nanos() -> i64 {
    nanos(clock_gettime(ClockId::Boottime))
}

fn nanos(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

/// Becomes readable once, after a while, as exactly as the kernel can: tokio's own timers turn by the millisecond.
#[derive(Debug)]
pub struct FineTimer(OwnedFd);

impl FineTimer {
    /// Starts one.
    pub fn start(after: Duration) -> Result<Self, Errno> {
        const NOT_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // Zero would stop it.
        let after = after.max(Duration::from_nanos(1));
        let seconds = i64::try_from(after.as_secs()).unwrap_or(i64::MAX);
        let it_value = Timespec { tv_sec: seconds, tv_nsec: after.subsec_nanos().into() };
        timerfd_settime(&fd, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: NOT_AGAIN, it_value })?;
        Ok(Self(fd))
    }
}

impl AsFd for FineTimer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for FineTimer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Becomes readable when somebody sets CLOCK_REALTIME.
#[derive(Debug)]
pub struct ClockWatch(OwnedFd);

impl ClockWatch {
    /// Starts watching.
    pub fn new() -> Result<Self, Errno> {
        let fd = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let watch = Self(fd);
        watch.arm()?;
        Ok(watch)
    }

    /// Sets a timer that never expires, but is cancelled when the clock is set.
    fn arm(&self) -> Result<(), Errno> {
        const NEVER: Timespec = Timespec { tv_sec: i64::MAX / 1_000_000_000, tv_nsec: 0 };
        const NOT_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let timer = Itimerspec { it_interval: NOT_AGAIN, it_value: NEVER };
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &timer)?;
        Ok(())
    }

    /// Whether the clock was set since the last time this was asked.
    pub fn was_set(&self) -> Result<bool, Errno> {
        match rustix::io::read(&self.0, &mut [0_u8; 8]) {
            Err(rustix::io::Errno::CANCELED) => self.arm().map(|()| true),
            Err(rustix::io::Errno::AGAIN) | Ok(_) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }
}

impl AsFd for ClockWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for ClockWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::new(errno.raw_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_runs_and_agrees_with_the_system() {
        let clock = SystemClock::start();
        let first = clock.now();
        assert!(clock.now() >= first);
        assert!(clock.ahead_nanos().abs() < 1_000_000_000);
        let realtime = realtime_nanos();
        assert!(clock.at_realtime(realtime) <= clock.now() && clock.at_realtime(realtime) >= first);
    }

    #[test]
    fn a_clock_that_nobody_sets_is_not_reported() {
        assert_eq!(ClockWatch::new().unwrap().was_set(), Ok(false));
    }
}
