//! `dhcp6ctl top`: what both planes do right now, on the whole screen.
//!
//! A thread takes samples, so that keys work while the daemon is slow to answer. [`view`] makes rates of two samples,
//! and [`screen`] draws them.

mod sample;
mod screen;
mod view;

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers},
};

use self::{
    sample::{Sample, Sampler},
    view::View,
};
use crate::Failure;

/// From one sample to the next.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a key may wait until it is looked at.
const KEY_INTERVAL: Duration = Duration::from_millis(100);

/// Shows the view until it is closed.
pub(crate) fn run(socket: &Path, pin_dir: Option<PathBuf>) -> Result<(), Failure> {
    if !io::stdout().is_terminal() {
        let reason = "top fills a terminal, and stdout is none; `stats --watch` writes lines";
        return Err(Failure::Usage(reason.to_owned()));
    }
    let (sink, samples) = mpsc::channel();
    let mut source = Sampler::new(socket, pin_dir);
    thread::spawn(move || {
        while sink.send(source.sample()).is_ok() {
            thread::sleep(INTERVAL);
        }
    });
    let unusable = |failure: io::Error| Failure::Usage(format!("cannot use the terminal: {failure}"));
    let mut terminal = ratatui::try_init().map_err(unusable)?;
    let watched = watch(&mut terminal, &samples);
    ratatui::try_restore().map_err(unusable)?;
    watched.map_err(unusable)
}

fn watch(terminal: &mut DefaultTerminal, samples: &Receiver<Sample>) -> io::Result<()> {
    let started = Instant::now();
    let mut before = None;
    let mut now: Option<Sample> = None;
    loop {
        while let Ok(sample) = samples.try_recv() {
            before = now.replace(sample);
        }
        let view = now.as_ref().map(|now| View::new(before.as_ref(), now));
        let age = now.as_ref().map_or(started, |now| now.at).elapsed();
        terminal.draw(|frame| screen::draw(frame, view.as_ref(), age))?;
        if event::poll(KEY_INTERVAL)?
            && let Event::Key(key) = event::read()?
            && closes(key)
        {
            return Ok(());
        }
    }
}

fn closes(key: KeyEvent) -> bool {
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => true,
        KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::closes;

    #[test]
    fn three_keys_close_the_view() {
        let key = |code, modifiers| closes(KeyEvent::new(code, modifiers));
        assert!(key(KeyCode::Char('q'), KeyModifiers::NONE));
        assert!(key(KeyCode::Esc, KeyModifiers::NONE));
        assert!(key(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(!key(KeyCode::Char('c'), KeyModifiers::NONE));
        assert!(!key(KeyCode::Enter, KeyModifiers::NONE));
    }
}
