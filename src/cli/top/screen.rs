//! The terminal while `top` or `lag` has it: raw, on its alternate screen, and given back whatever happens.

use std::io::{self, Write as _};
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Print, SetAttribute};
use crossterm::terminal::{self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, execute, queue};
use tokio::sync::mpsc;

use crate::cli::error::CliError;
use crate::cli::signals::Signals;
use crate::cli::stats::ticks;

/// How long the thread that waits for keys waits at a time: so long may it outlive the screen.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// What a key asks for.
enum Asked {
    Quit,
    Scroll(isize),
    Redraw,
}

/// Draws what `look` sees at every interval until q, Esc or Ctrl-C is pressed, or the coordinator has gone for good.
pub(in crate::cli) async fn run(
    interval: Duration,
    signals: &mut Signals,
    mut look: impl AsyncFnMut() -> Result<Vec<String>, CliError>,
) -> Result<(), CliError> {
    let screen = Screen::enter()?;
    let mut keys = keys();
    let mut ticks = ticks(interval);
    let mut lines = vec!["...".to_owned()];
    let mut offset = 0_usize;
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                lines = look().await?;
            }
            asked = keys.recv() => match asked {
                None | Some(Asked::Quit) => return Ok(()),
                Some(Asked::Scroll(by)) => offset = offset.saturating_add_signed(by),
                Some(Asked::Redraw) => {}
            },
            _ = signals.next() => return Ok(()),
        }
        offset = screen.draw(&lines, offset)?;
    }
}

/// The keys that are pressed, read by a thread of their own, which ends when the receiver is dropped.
fn keys() -> mpsc::Receiver<Asked> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::task::spawn_blocking(move || {
        while !sender.is_closed() {
            let asked = match event::poll(KEY_WAIT) {
                Ok(false) => None,
                Ok(true) => event::read().map_or(Some(Asked::Quit), |event| asked(&event)),
                Err(_) => Some(Asked::Quit),
            };
            if asked.is_some_and(|asked| sender.blocking_send(asked).is_err()) {
                return;
            }
        }
    });
    receiver
}

fn asked(event: &Event) -> Option<Asked> {
    match event {
        Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) => match code {
            KeyCode::Char('q') | KeyCode::Esc => Some(Asked::Quit),
            KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Some(Asked::Quit),
            KeyCode::Up | KeyCode::Char('k') => Some(Asked::Scroll(-1)),
            KeyCode::Down | KeyCode::Char('j') => Some(Asked::Scroll(1)),
            KeyCode::PageUp => Some(Asked::Scroll(-10)),
            KeyCode::PageDown => Some(Asked::Scroll(10)),
            _ => None,
        },
        Event::Resize(..) => Some(Asked::Redraw),
        _ => None,
    }
}

/// The terminal's alternate screen; dropping it gives the terminal back.
struct Screen;

impl Screen {
    fn enter() -> Result<Self, CliError> {
        terminal::enable_raw_mode().map_err(CliError::print)?;
        let screen = Self;
        execute!(io::stdout(), EnterAlternateScreen, cursor::Hide).map_err(CliError::print)?;
        Ok(screen)
    }

    /// Draws as many lines as fit, the first one as a heading that stays; gives the offset that was possible.
    fn draw(&self, lines: &[String], offset: usize) -> Result<usize, CliError> {
        let (width, height) = terminal::size().map_err(CliError::print)?;
        let (width, height) = (usize::from(width), usize::from(height));
        let Some((heading, body)) = lines.split_first() else {
            return Ok(0);
        };
        let offset = offset.min((body.len() + 1).saturating_sub(height));
        self.draw_lines(heading, &body[offset..], width, height).map_err(CliError::print)?;
        Ok(offset)
    }

    fn draw_lines(&self, heading: &str, body: &[String], width: usize, height: usize) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        queue!(stdout, cursor::MoveTo(0, 0), SetAttribute(Attribute::Bold), Print(cut(heading, width)), Clear(ClearType::UntilNewLine))?;
        queue!(stdout, SetAttribute(Attribute::Reset))?;
        for line in body.iter().take(height.saturating_sub(1)) {
            queue!(stdout, Print("\r\n"), Print(cut(line, width)), Clear(ClearType::UntilNewLine))?;
        }
        queue!(stdout, Clear(ClearType::FromCursorDown))?;
        stdout.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that does not take it.
        let _ = execute!(io::stdout(), cursor::Show, LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

/// The part of a line that fits.
fn cut(line: &str, width: usize) -> String {
    line.chars().take(width).collect()
}
