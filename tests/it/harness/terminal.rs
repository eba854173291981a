//! A terminal, and what a command draws on it, as a person sees it.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;
use std::thread;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::within;

/// A command on a terminal that is its controlling one: Ctrl-C reaches it as it would from a keyboard.
pub struct Terminal {
    keyboard: File,
    /// What is drawn, as a thread reads it. It ends when nobody has the other end of the line any more.
    drawn: mpsc::Receiver<Vec<u8>>,
    child: Child,
    screen: Screen,
}

impl Terminal {
    /// Runs `command`, which is one of `farsock_on_terminal`, on a terminal that is so wide.
    pub fn run(mut command: Command, columns: u16) -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        tcsetwinsize(&keyboard, Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let line = open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let end = || Stdio::from(line.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end()).env_remove("NO_COLOR");
        let child = command.spawn().unwrap();
        let keyboard = File::from(keyboard);
        let (mut source, (sender, drawn)) = (keyboard.try_clone().unwrap(), mpsc::channel(64));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = source.read(&mut bytes) {
                if sender.blocking_send(bytes[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { keyboard, drawn, child, screen: Screen::new(columns) }
    }

    /// Reads what it draws until the screen shows that, and answers its lines.
    pub async fn until(&mut self, what: &str, shown: impl Fn(&[String]) -> bool) -> Vec<String> {
        let seen = async {
            while !shown(&self.screen.lines()) {
                assert!(self.read().await, "it has ended without {what}: {:#?}", self.screen.lines());
            }
        };
        within(what, seen).await;
        self.screen.lines()
    }

    /// Makes it wider or narrower.
    pub fn resize(&mut self, columns: u16) {
        let size = tcgetwinsize(&self.keyboard).unwrap();
        tcsetwinsize(&self.keyboard, Winsize { ws_col: columns, ..size }).unwrap();
        self.screen.columns = columns.into();
    }

    /// Types something.
    pub fn type_keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for its end: the exit code, and the lines that are left on the screen.
    pub async fn end(mut self) -> (Option<i32>, Vec<String>) {
        within("the end of what it draws", async { while self.read().await {} }).await;
        let status = within("the command's end", self.child.wait()).await.unwrap();
        (status.code(), self.screen.lines())
    }

    /// Reads something more; false at the end.
    async fn read(&mut self) -> bool {
        match self.drawn.recv().await {
            Some(bytes) => {
                self.screen.draw(&bytes);
                true
            }
            None => false,
        }
    }
}

/// Characters where they were drawn, and where the next one goes.
struct Screen {
    columns: usize,
    cells: Vec<Vec<char>>,
    row: usize,
    column: usize,
    /// The beginning of a character or of a sequence.
    rest: Vec<u8>,
}

impl Screen {
    fn new(columns: u16) -> Self {
        Self { columns: columns.into(), cells: vec![Vec::new()], row: 0, column: 0, rest: Vec::new() }
    }

    fn lines(&self) -> Vec<String> {
        let line = |cells: &Vec<char>| cells.iter().collect::<String>().trim_end().to_owned();
        self.cells.iter().map(line).collect()
    }

    fn draw(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.rest) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let text = String::from_utf8(self.rest.drain(..whole).collect()).unwrap();
        let mut rest = text.as_str();
        while let Some(first) = rest.chars().next() {
            if let Some(sequence) = rest.strip_prefix("\x1b[") {
                let Some(end) = sequence.find(|c: char| c.is_ascii_alphabetic()) else { break };
                self.control(&sequence[..=end]);
                rest = &sequence[end + 1..];
            } else if rest == "\x1b" {
                break;
            } else {
                self.character(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        let unfinished = rest.as_bytes().to_vec();
        self.rest.splice(..0, unfinished);
    }

    /// ECMA-48: EL, and SGR, which changes nothing that is looked at.
    fn control(&mut self, sequence: &str) {
        match sequence {
            "K" => self.cells[self.row].truncate(self.column),
            color if color.ends_with('m') => {}
            other => panic!("this terminal does not know {other:?}"),
        }
    }

    fn character(&mut self, character: char) {
        match character {
            '\r' => self.column = 0,
            '\n' => self.next_line(),
            control if control.is_control() => panic!("this terminal does not know {control:?}"),
            shown => {
                if self.column == self.columns {
                    self.next_line();
                    self.column = 0;
                }
                let line = &mut self.cells[self.row];
                line.resize(line.len().max(self.column + 1), ' ');
                line[self.column] = shown;
                self.column += 1;
            }
        }
    }

    fn next_line(&mut self) {
        self.row += 1;
        if self.row == self.cells.len() {
            self.cells.push(Vec::new());
        }
    }
}
