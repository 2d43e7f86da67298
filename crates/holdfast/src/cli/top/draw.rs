//! Draws what the [`Model`] holds. Decides nothing.

use super::model::{HISTORY_MAX, History, Model, View};
use crate::cli::health::{self, shown_state};
use crate::cli::output::Tone;
use crate::cli::{status, text};
use control::{InstanceView, Severity};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table, TableState, Wrap};

/// Rows of the lower part.
const DETAIL_ROWS: u16 = 9;

/// Points of a sparkline.
const SPARK_COLUMNS: usize = 8;

/// The whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Length(2), Constraint::Min(3), Constraint::Length(1)])
            .areas(frame.area());
    header(frame, top, model);
    match model.view {
        View::Log => log(frame, middle, model),
        View::Table if middle.height < DETAIL_ROWS + 4 => table(frame, middle, model),
        View::Table => {
            let [upper, lower] =
                Layout::vertical([Constraint::Min(4), Constraint::Length(DETAIL_ROWS)])
                    .areas(middle);
            table(frame, upper, model);
            details(frame, lower, model);
        }
    }
    footer(frame, bottom, model);
}

fn style(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Strong => Style::new().add_modifier(Modifier::BOLD),
        Tone::Faint => Style::new().add_modifier(Modifier::DIM),
        Tone::Good => Style::new().fg(Color::Green),
        Tone::Busy => Style::new().fg(Color::Yellow),
        Tone::Bad => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        Tone::Accent => Style::new().fg(Color::Cyan),
    }
}

fn span(tone: Tone, text: impl Into<String>) -> Span<'static> {
    Span::styled(text.into(), style(tone))
}

fn header(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let snapshot = &model.snapshot;
    let up = text::age(text::between(snapshot.started_us, snapshot.taken_us));
    let machine = model.machine;
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let off = model.rows().iter().filter(|i| !status::is_as_wanted(i)).count();
    let verdict = match off {
        0 => span(Tone::Good, "● as wanted"),
        _ => span(Tone::Bad, format!("✗ {off} not as wanted")),
    };
    let line = Line::from(vec![
        span(Tone::Strong, snapshot.node.clone()),
        span(Tone::Faint, format!("  up {up}  ")),
        verdict,
        span(
            Tone::Plain,
            format!(
                "  cpu {:.0}%  mem {:.1} of {:.1} GiB",
                machine.cpu_percent,
                gib(machine.memory_used_bytes),
                gib(machine.memory_bytes)
            ),
        ),
        span(Tone::Faint, format!("  {}", snapshot.console.as_deref().unwrap_or(""))),
    ]);
    frame.render_widget(Paragraph::new(line), area);
}

fn table(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let rows = model.rows();
    let longest = rows.iter().map(|i| text::width(&i.name)).max().unwrap_or(0).clamp(7, 24);
    let state_columns = rows.iter().map(|i| shown_state(i).len()).max().unwrap_or(0).max(8);
    let header = Row::new(["", "SERVICE", "STATE", "PID", "SINCE", "RESTARTS", "CPU", "MEMORY"])
        .style(style(Tone::Faint));
    let taken_us = model.snapshot.taken_us;
    let body = rows.iter().map(|i| row(i, taken_us, model.histories.get(&i.name), longest));
    let widths = [
        Constraint::Length(1),
        Constraint::Length(longest as u16),
        Constraint::Length(state_columns as u16),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Length(SPARK_COLUMNS as u16 + 6),
        Constraint::Length(SPARK_COLUMNS as u16 + 7),
    ];
    let table = Table::new(body, widths)
        .header(header)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(model.selected_row());
    frame.render_stateful_widget(table, area, &mut state);
}

fn row(
    instance: &InstanceView,
    taken_us: i64,
    history: Option<&History>,
    name_columns: usize,
) -> Row<'static> {
    let state = shown_state(instance);
    let (sign, tone) = status::sign(state);
    let pid = instance.pid.map_or("-".to_owned(), |pid| pid.to_string());
    let since = text::age(status::lasting(instance, taken_us));
    let (cpu, memory) = history.map(meters).unwrap_or_default();
    Row::new([
        Cell::from(span(tone, sign)),
        Cell::from(span(Tone::Strong, text::cut(&instance.name, name_columns))),
        Cell::from(span(tone, state.to_owned())),
        Cell::from(format!("{pid:>7}")),
        Cell::from(format!("{since:>7}")),
        Cell::from(format!("{:>8}", instance.restarts)),
        Cell::from(cpu),
        Cell::from(memory),
    ])
}

/// The last value and the way there, of CPU and of memory.
fn meters(history: &History) -> (String, String) {
    let cpu = history.cpu_percent.last().copied().unwrap_or(0.0);
    let memory = history.memory_bytes.last().copied().unwrap_or(0);
    let tenths: Vec<u64> = history.cpu_percent.iter().map(|p| (p * 10.0) as u64).collect();
    // Idle must look idle: the scale of CPU never goes below ten percent of a core.
    (
        format!("{cpu:>4.0}% {}", spark(&tenths, 100)),
        format!("{:>6} {}", mebibytes(memory), spark(&history.memory_bytes, 1)),
    )
}

fn mebibytes(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 1000.0 { format!("{mib:.0}M") } else { format!("{:.1}G", mib / 1024.0) }
}

/// The newest points as a line of blocks, scaled to the highest of all, or to `scale_min`.
fn spark(points: &[u64], scale_min: u64) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = points.iter().copied().max().unwrap_or(0).max(scale_min).max(1);
    let newest = &points[points.len().saturating_sub(SPARK_COLUMNS)..];
    let block = |point: &u64| BLOCKS[(point * 7).div_ceil(highest).min(7) as usize];
    newest.iter().map(block).collect()
}

const _: () = assert!(SPARK_COLUMNS <= HISTORY_MAX, "a sparkline shows what is kept");

fn details(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let Some(selected) = model.selected() else { return };
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(area);
    let mut lines: Vec<Line<'_>> = Vec::new();
    for (depth, link) in model.why.chain.iter().enumerate() {
        let indent = "  ".repeat(depth.min(4));
        lines.push(Line::from(format!("{indent}{}. {}", depth + 1, text::clean(&link.message))));
    }
    let note = status::note(selected);
    if lines.is_empty() && !note.is_empty() {
        lines.push(Line::from(note));
    }
    for (tone, note) in health::notes(selected, model.snapshot.taken_us) {
        lines.push(Line::from(span(tone, text::clean(&note))));
    }
    for help in &model.why.help {
        lines.push(Line::from(span(Tone::Accent, format!("• {}", text::clean(help)))));
    }
    let title = format!(" {} is {} ", selected.name, shown_state(selected));
    let block = Block::new().borders(Borders::TOP).title(span(Tone::Strong, title));
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(block), left);

    let today_us = model.snapshot.taken_us;
    let events: Vec<Line<'_>> = model
        .events_of_selected()
        .into_iter()
        .take(usize::from(DETAIL_ROWS))
        .map(|event| {
            let tone = match event.severity {
                Severity::Info => Tone::Plain,
                Severity::Warning => Tone::Busy,
                Severity::Error => Tone::Bad,
            };
            Line::from(vec![
                span(Tone::Faint, format!("{} ", text::local_time(event.wall_us, today_us))),
                span(tone, text::clean(&event.message)),
            ])
        })
        .collect();
    let title =
        if events.is_empty() { " nothing happened since top began " } else { " since top began " };
    let block = Block::new().borders(Borders::TOP).title(span(Tone::Strong, title));
    frame.render_widget(Paragraph::new(events).block(block), right);
}

fn log(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let Some(selected) = model.selected() else { return };
    let title = format!(" output of {} ", selected.name);
    let block = Block::new().borders(Borders::TOP).title(span(Tone::Strong, title));
    let rows = usize::from(area.height.saturating_sub(1));
    let newest = &model.log[model.log.len().saturating_sub(rows)..];
    let lines: Vec<Line<'_>> = newest.iter().map(|line| Line::from(text::clean(line))).collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn footer(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let line = if let Some(why) = &model.lost {
        Line::from(span(Tone::Bad, format!("no answer: {}", text::clean(why))))
    } else if let Some(question) = &model.question {
        let text =
            format!(" {} {}? y = yes, any other key = no ", question.verb, question.instance);
        Line::from(Span::styled(text, Style::new().add_modifier(Modifier::REVERSED)))
    } else if !model.message.is_empty() {
        Line::from(span(Tone::Bad, text::clean(&model.message)))
    } else {
        let keys = match model.view {
            View::Table => "↑↓ select  s start/stop  t restart  r reload  l log  q quit",
            View::Log => "↑↓ other service  l or q back",
        };
        Line::from(span(Tone::Faint, keys))
    };
    frame.render_widget(Paragraph::new(line), area);
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Machine, Sample};
    use super::*;
    use crate::cli::samples;
    use control::{WhyLink, WhyView};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    fn model() -> Model {
        let mut model = Model::new(samples::snapshot());
        for step in 0..12_u16 {
            let memory = (u64::from(step) + 20) << 20;
            let of = |name: &str| (name.to_owned(), (f32::from(step * 5), memory));
            let instances = [of("web:0"), of("web:1")].into_iter().collect();
            let machine =
                Machine { cpu_percent: 12.0, memory_used_bytes: 3 << 30, memory_bytes: 8 << 30 };
            model.update(samples::snapshot(), Sample { machine, instances });
        }
        model
    }

    fn screen(model: &Model) -> String {
        let mut terminal = Terminal::new(TestBackend::new(90, 24)).unwrap();
        terminal.draw(|frame| draw(frame, model)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn the_table_shows_every_service_and_why_the_selected_one_is_as_it_is() {
        let mut model = model();
        model.select_by(2);
        model.set_why(WhyView {
            subject: "fragile".into(),
            state: "failed".into(),
            chain: vec![WhyLink {
                subject: "fragile".into(),
                message: "gave up after 5 restarts within 60 s".into(),
            }],
            help: vec!["`holdfast service start fragile`".into()],
            ..WhyView::default()
        });
        insta::assert_snapshot!(screen(&model));
    }

    #[test]
    fn h28_a_sick_service_is_shown_as_such_with_what_is_done_about_it() {
        let mut snapshot = samples::snapshot();
        snapshot.services[4].instances = vec![samples::sick(), samples::replaced()];
        let mut model = Model::new(snapshot);
        model.select_by(4);
        insta::assert_snapshot!(screen(&model));
    }

    #[test]
    fn the_log_view_shows_the_newest_lines_and_a_question_stands_at_the_bottom() {
        let mut model = model();
        super::super::keys::pressed(
            &mut model,
            KeyEvent::new(KeyCode::Char('l'), KeyModifiers::NONE),
        );
        model.set_log((1..100).map(|n| format!("line \x1b[31m{n}")).collect());
        super::super::keys::pressed(
            &mut model,
            KeyEvent::new(KeyCode::Char('t'), KeyModifiers::NONE),
        );
        insta::assert_snapshot!(screen(&model));
    }

    #[test]
    fn a_screen_of_any_size_is_drawn() {
        let model = model();
        for (columns, rows) in [(1, 1), (10, 3), (20, 8), (300, 100)] {
            let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
            terminal.draw(|frame| draw(frame, &model)).unwrap();
        }
    }

    #[test]
    fn a_sparkline_shows_the_newest_points_up_to_the_highest() {
        assert_eq!(spark(&[0, 7, 14], 1), "▁▅█");
        assert_eq!(spark(&[1, 1], 100), "▂▂");
        assert_eq!(spark(&[], 1), "");
        assert_eq!(spark(&[u64::MAX / 8; 20], 1).chars().count(), SPARK_COLUMNS);
    }
}
