//! `top`: the services, live.
//!
//! The driver of [`model`]: keys, snapshots, samples and events come in, [`draw`] shows what the
//! model holds, and what a key asks for is carried out here. Nothing is drawn unless something has
//! changed.

mod draw;
mod keys;
mod model;
mod sample;

use super::args::Global;
use super::client::Client;
use super::failure::{Code, Failure};
use super::output::Output;
use super::{locate, why};
use control::Request;
use journal::logfile;
use keys::Ask;
use model::{Model, View};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use sample::Sampler;
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

/// Between two looks at everything.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long one wait for a key lasts; pushed events are taken in between.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// Lines of a log that are kept for its view.
const LOG_LINES: usize = 500;

/// `holdfast top`.
pub(crate) fn run(output: &Output, global: &Global) -> Result<Code, Failure> {
    if output.json || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Failure::usage("top needs a terminal")
            .help("`holdfast status` prints the same once, `--json` included"));
    }
    let socket = locate::control_socket(global)?;
    // Before the screen is taken, so that a daemon that is not there is said in plain text.
    let mut live = Live::connect(&socket)?;
    let mut terminal = ratatui::try_init()
        .map_err(|why| Failure::no(format!("cannot use this terminal: {why}")))?;
    let ended = show(&mut terminal, &socket, &mut live);
    ratatui::restore();
    ended.map(|()| Code::Done)
}

/// The daemon's side: what is seen, and the connections it comes by.
struct Live {
    client: Client,
    listener: Client,
    model: Model,
    sampler: Sampler,
    looked: Option<Instant>,
}

impl Live {
    fn connect(socket: &Path) -> Result<Self, Failure> {
        let mut client = Client::connect(socket)?;
        let mut listener = Client::connect(socket)?;
        listener.ask(Request::Subscribe)?;
        let model = Model::new(client.status()?);
        Ok(Self { client, listener, model, sampler: Sampler::default(), looked: None })
    }

    /// Takes in what has happened; looks at everything when it is time or something has happened.
    fn look(&mut self) -> Result<(), Failure> {
        let mut is_due = self.looked.is_none_or(|looked| LOOK_EVERY <= looked.elapsed());
        while let Some(event) = self.listener.event(Instant::now() + Duration::from_millis(1))? {
            self.model.add_event(event);
            is_due = true;
        }
        if !is_due {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        let snapshot = self.client.status()?;
        let samples = self.sampler.sample(&snapshot);
        self.model.update(snapshot, samples);
        self.look_closer()
    }

    /// What concerns only the selected one.
    fn look_closer(&mut self) -> Result<(), Failure> {
        let Some(selected) = self.model.selected().cloned() else { return Ok(()) };
        match self.model.view {
            View::Table => {
                let chain = why::ask(&mut self.client, &selected.name)?;
                self.model.set_why(chain);
            }
            View::Log => {
                let lines = logfile::tail(Path::new(&selected.log), LOG_LINES);
                self.model
                    .set_log(lines.unwrap_or_else(|why| {
                        vec![format!("cannot read {}: {why}", selected.log)]
                    }));
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, ask: Ask) -> Result<(), Failure> {
        match ask {
            Ask::Service { action, instance } => {
                let request = Request::Service { action, targets: vec![instance] };
                match self.client.ask(request) {
                    Ok(_) => self.model.say(String::new()),
                    // A refusal is news for the person, not the end of the program.
                    Err(refused) if refused.code != Code::CannotTell => {
                        self.model.say(refused.message);
                    }
                    Err(lost) => return Err(lost),
                }
                self.looked = None;
                Ok(())
            }
            Ask::LookCloser => self.look_closer(),
            Ask::Nothing | Ask::Quit => Ok(()),
        }
    }
}

fn show(terminal: &mut DefaultTerminal, socket: &Path, live: &mut Live) -> Result<(), Failure> {
    let broken = |why: std::io::Error| Failure::no(format!("cannot use this terminal: {why}"));
    loop {
        if let Err(lost) = live.look() {
            // It may be replaced right now: the screen stays, and says so.
            live.model.lose(lost.message);
            if let Ok(again) = Live::connect(socket) {
                *live = Live { model: live.model.found_again(again.model), ..again };
            }
        }
        if live.model.take_changed() {
            terminal.draw(|frame| draw::draw(frame, &live.model)).map_err(broken)?;
        }
        if !event::poll(KEY_WAIT).map_err(broken)? {
            continue;
        }
        match event::read().map_err(broken)? {
            Event::Key(key) if key.kind == KeyEventKind::Press => {
                let ask = keys::pressed(&mut live.model, key);
                if ask == Ask::Quit {
                    return Ok(());
                }
                if let Err(lost) = live.carry_out(ask) {
                    live.model.lose(lost.message);
                }
            }
            Event::Resize(..) => live.model.touch(),
            _ => {}
        }
    }
}
