//! Draws the view. Where the terminal is too small for everything, what is least busy is left out, and counted.

use std::time::Duration;

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Color, Style, Stylize as _},
    text::{Line, Text},
    widgets::{Block, Borders, Paragraph, Row, Table},
};

use super::view::{DaemonView, FastPathView, InterfaceView, PerSecond, PoolView, Rate, View};

/// Samples come each second: one that is older than this is said to be old.
const OLD: Duration = Duration::from_secs(3);
/// A section has a title and a header above its rows.
const SECTION_FRAME: u16 = 2;
/// Cells of a rate of one kind of message.
const RATE_WIDTH: u16 = 6;

/// Draws a view that is `age` old; none yet where it is `None`.
pub(super) fn draw(frame: &mut Frame<'_>, view: Option<&View<'_>>, age: Duration) {
    let [status, problem, body] =
        Layout::vertical([Constraint::Length(1), Constraint::Length(1), Constraint::Fill(1)])
            .areas(frame.area());
    frame.render_widget(Line::from("q quits").dim().alignment(Alignment::Right), status);
    if let Some(text) = stale(view, age).or_else(|| trouble(view?)) {
        frame.render_widget(Line::from(text).fg(Color::Red), problem);
    }
    let Some(View { daemon, fast_path }) = view else { return };
    let daemon = daemon.as_ref().ok();
    frame.render_widget(status_line(daemon), status);

    let needs = [
        match fast_path {
            FastPathView::Off | FastPathView::Unreadable(_) => 0,
            FastPathView::Interfaces(interfaces) => interfaces.len(),
        },
        daemon.map_or(0, |daemon| {
            [&daemon.received, &daemon.sent, &daemon.dropped].map(Vec::len).into_iter().max().unwrap_or(0)
        }),
        daemon.map_or(0, |daemon| daemon.pools.len()),
    ];
    let rows = share(body.height.saturating_sub(3 * SECTION_FRAME), needs);
    let [fast_path_area, slow_path_area, pools_area] =
        Layout::vertical(rows.map(|rows| Constraint::Length(rows + SECTION_FRAME))).areas(body);

    match fast_path {
        FastPathView::Off => text(frame, fast_path_area, "Fast path", "off"),
        FastPathView::Unreadable(reason) => text(frame, fast_path_area, "Fast path", reason),
        FastPathView::Interfaces(interfaces) => draw_interfaces(frame, fast_path_area, interfaces),
    }
    if let Some(daemon) = daemon {
        draw_slow_path(frame, slow_path_area, daemon);
        draw_pools(frame, pools_area, &daemon.pools);
    }
}

/// That there is nothing new to show.
fn stale(view: Option<&View<'_>>, age: Duration) -> Option<String> {
    let seconds = age.as_secs();
    match view {
        _ if age >= OLD => Some(format!("no answer from dhcp6d for {seconds} s")),
        None => Some("waiting for dhcp6d".to_owned()),
        Some(_) => None,
    }
}

/// What the operator has to know.
fn trouble(view: &View<'_>) -> Option<String> {
    match &view.daemon {
        Err(reason) => Some(format!("trying again: {reason}")),
        Ok(DaemonView { status, .. }) if !status.store.ok => {
            let reason = status.store.last_error.as_deref().unwrap_or("it does not say why");
            Some(format!("the store fails, nothing new is promised: {reason}"))
        }
        Ok(_) => None,
    }
}

fn status_line(daemon: Option<&DaemonView<'_>>) -> Line<'static> {
    let Some(DaemonView { status, .. }) = daemon else {
        return Line::from("dhcp6d cannot be reached").bold();
    };
    let store = if status.store.ok { "ok" } else { "FAILING" };
    Line::from(vec![
        format!("dhcp6d {}", status.version).bold(),
        format!("  since {}", status.since).into(),
        format!("  {} {store}", status.store.kind).into(),
        format!(
            "  reloaded {}",
            status.last_reload.as_ref().map_or("never", |reload| if reload.ok {
                &reload.at
            } else {
                "FAILED"
            })
        )
        .into(),
    ])
}

fn draw_interfaces(frame: &mut Frame<'_>, area: Rect, interfaces: &[InterfaceView<'_>]) {
    let name = interfaces.iter().map(|interface| interface.name.len()).max().unwrap_or(0).max(9);
    let rows = interfaces.iter().map(|interface| {
        let InterfaceView { name, mode, answered, passed, dropped, reasons } = interface;
        // The number first: one that is cut off would be wrong.
        let reasons: Vec<_> =
            reasons.iter().map(|rate| format!("{} {}", per_second(rate.per_second), rate.name)).collect();
        Row::new([
            Text::from(*name),
            Text::from(mode.unwrap_or("-")),
            number(*answered),
            number(*passed),
            number(*dropped),
            Text::from(reasons.join(", ")),
        ])
    });
    let widths = [
        Constraint::Length(name as u16),
        Constraint::Length(7),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Fill(1),
    ];
    let header = Row::new([
        Text::from("INTERFACE"),
        Text::from("MODE"),
        Text::from("ANSWERED/S").right_aligned(),
        Text::from("PASSED/S").right_aligned(),
        Text::from("DROPPED/S").right_aligned(),
        Text::from("PASSED OR DROPPED BECAUSE"),
    ]);
    let table =
        Table::new(rows, widths).header(header.dim()).block(section("Fast path", interfaces.len(), area));
    frame.render_widget(table, area);
}

fn draw_slow_path(frame: &mut Frame<'_>, area: Rect, daemon: &DaemonView<'_>) {
    let DaemonView { received, sent, dropped, status: _, pools: _ } = daemon;
    // Wide enough for the longest names on 80 columns.
    let shares = [26, 18, 34].map(Constraint::Fill);
    let areas: [Rect; 3] = Layout::horizontal(shares).spacing(1).areas(area);
    for ((title, rates), area) in
        [("Daemon received", received), ("Sent", sent), ("Dropped", dropped)].into_iter().zip(areas)
    {
        let rows = rates.iter().map(|rate: &Rate<'_>| {
            let style = match (title, rate.per_second) {
                ("Dropped", Some(rate)) if rate > 0.0 => Style::new().fg(Color::Yellow),
                _ => Style::new(),
            };
            Row::new([Text::from(rate.name), number(rate.per_second)]).style(style)
        });
        let header = Row::new([
            Text::from(if title == "Dropped" { "REASON" } else { "TYPE" }),
            Text::from("/S").right_aligned(),
        ]);
        let table = Table::new(rows, [Constraint::Fill(1), Constraint::Length(RATE_WIDTH)])
            .header(header.dim())
            .block(section(title, rates.len(), area));
        frame.render_widget(table, area);
    }
}

fn draw_pools(frame: &mut Frame<'_>, area: Rect, pools: &[PoolView]) {
    const COUNTS: u16 = 30;
    const CONFLICTS: u16 = 9;
    let longest = pools.iter().map(|pool| pool.name.chars().count()).max().unwrap_or(0);
    let name = (longest as u16).max(4).min(area.width / 4);
    // The bar, and the spaces between the columns, have what the others leave.
    let bar_width = area.width.saturating_sub(name + COUNTS + CONFLICTS + 3);
    let rows = pools.iter().map(|pool| {
        let usage = pool.usage();
        let color = match usage {
            0.95.. => Color::Red,
            0.8.. => Color::Yellow,
            _ => Color::Green,
        };
        let counts = format!("{} of {} ({:.0} %)", pool.used, pool.assignable, usage * 100.0);
        Row::new([
            Text::from(pool.name.as_str()),
            Text::from(bar(usage, bar_width)).fg(color),
            Text::from(counts).right_aligned(),
            Text::from(pool.conflict.to_string()).right_aligned(),
        ])
    });
    let header = Row::new([
        Text::from("LINK"),
        Text::from("USAGE"),
        Text::from("USED").right_aligned(),
        Text::from("CONFLICTS").right_aligned(),
    ]);
    let widths = [name, bar_width, COUNTS, CONFLICTS].map(Constraint::Length);
    let table = Table::new(rows, widths).header(header.dim()).block(section("Pools", pools.len(), area));
    frame.render_widget(table, area);
}

fn text(frame: &mut Frame<'_>, area: Rect, title: &str, text: &str) {
    frame.render_widget(Paragraph::new(text).block(section(title, 0, area)), area);
}

/// A line with the title, and how many of the rows there is no room for.
fn section(title: &str, rows: usize, area: Rect) -> Block<'static> {
    let hidden = rows.saturating_sub(area.height.saturating_sub(SECTION_FRAME).into());
    let title = if hidden == 0 { format!("{title} ") } else { format!("{title}, {hidden} more ") };
    Block::new().borders(Borders::TOP).title(title.bold())
}

/// Divides `rows` among sections that need so many: none gets more than it needs, and none less than another that
/// gets less than it needs.
fn share(rows: u16, needs: [usize; 3]) -> [u16; 3] {
    let mut shares = [0; 3];
    let mut left = rows;
    while left > 0 {
        let mut changed = false;
        for (share, need) in shares.iter_mut().zip(needs) {
            if usize::from(*share) < need && left > 0 {
                *share += 1;
                left -= 1;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    shares
}

fn number(rate: PerSecond) -> Text<'static> {
    Text::from(per_second(rate)).right_aligned()
}

fn per_second(rate: PerSecond) -> String {
    match rate {
        None => "-".to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(rate) if rate < 9.95 => format!("{rate:.1}"),
        Some(rate) if rate < 999_999.5 => format!("{rate:.0}"),
        Some(rate) => format!("{:.2}M", rate / 1e6),
    }
}

/// A bar of `width` cells, filled by a share from 0 to 1. It is empty and full where the share is 0 and 1 only.
#[expect(clippy::cast_sign_loss, reason = "shares are not negative")]
fn bar(share: f64, width: u16) -> String {
    let filled = (share * f64::from(width)).round() as u16;
    let filled = match share {
        0.0 => 0,
        ..1.0 => filled.clamp(1.min(width), width.saturating_sub(1).max(1)),
        _ => width,
    };
    "█".repeat(filled.into()) + &"░".repeat(width.saturating_sub(filled).into())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use ratatui::{Terminal, backend::TestBackend, buffer::Cell};

    use super::{
        super::{
            sample::{FastPathSample, Sample},
            view::{View, tests::sample},
        },
        OLD, bar, draw, per_second, share,
    };

    /// The lines of a screen, without the spaces behind them.
    fn drawn(width: u16, height: u16, view: Option<&View<'_>>, age: Duration) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view, age)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |cells: &[Cell]| cells.iter().map(Cell::symbol).collect::<String>().trim_end().to_owned();
        buffer.content.chunks(width.into()).map(line).collect()
    }

    fn samples() -> (Sample, Sample) {
        let start = Instant::now();
        (sample(start, 0, 10), sample(start, 2, 16))
    }

    #[test]
    fn everything_fits_a_small_terminal() {
        let (before, now) = samples();
        let view = View::new(Some(&before), &now);
        let expected = [
            "dhcp6d 0.1.0  since 2026-11-23T15:03:16Z  sqlite ok  reloaded never      q quits",
            "",
            "Fast path ──────────────────────────────────────────────────────────────────────",
            "INTERFACE MODE    ANSWERED/S PASSED/S DROPPED/S PASSED OR DROPPED BECAUSE",
            "eth1      native         300       30         0 18 unknown_client, 12 not_solici",
            "eth0      -                0        0         0",
            "Daemon received ────────── Sent ───────────── Dropped ──────────────────────────",
            "TYPE                    /S TYPE            /S REASON                          /S",
            "request                6.0 reply          9.0 socket full                     30",
            "solicit                3.0                    malformed                      3.0",
            "Pools ──────────────────────────────────────────────────────────────────────────",
            "LINK    USAGE                                                     USED CONFLICTS",
            "access1 ██████████████████████████████░               96 of 100 (96 %)         3",
            "access0 ████████░░░░░░░░░░░░░░░░░░░░░░░               25 of 100 (25 %)         0",
            "empty   ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░                   0 of 0 (0 %)         0",
        ];
        let lines = drawn(80, 24, Some(&view), Duration::ZERO);
        assert_eq!(lines[..expected.len()], expected);
        assert!(lines[expected.len()..].iter().all(String::is_empty), "{lines:#?}");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let (before, now) = samples();
        let view = View::new(Some(&before), &now);
        let lines = drawn(70, 11, Some(&view), Duration::ZERO);
        for title in ["Fast path, 1 more", "Daemon received, 1 more", "Pools, 2 more"] {
            assert!(lines.iter().any(|line| line.contains(title)), "{title}: {lines:#?}");
        }
        for (width, height) in [(1, 1), (5, 3), (20, 8), (300, 100)] {
            drawn(width, height, Some(&view), Duration::ZERO);
        }
    }

    #[test]
    fn what_is_wrong_is_on_the_second_line() {
        let (before, mut now) = samples();
        let waiting = drawn(80, 24, None, Duration::ZERO);
        assert_eq!(waiting[1], "waiting for dhcp6d");

        let view = View::new(Some(&before), &now);
        assert_eq!(drawn(80, 24, Some(&view), OLD)[1], "no answer from dhcp6d for 3 s");

        if let Ok(daemon) = &mut now.daemon {
            daemon.status.store.ok = false;
            daemon.status.store.last_error = Some("disk full".to_owned());
        }
        let lines = drawn(80, 24, Some(&View::new(Some(&before), &now)), Duration::ZERO);
        assert!(lines[0].contains("sqlite FAILING"), "{lines:#?}");
        assert_eq!(lines[1], "the store fails, nothing new is promised: disk full");

        now.daemon = Err("nobody listens".to_owned());
        let lines = drawn(80, 24, Some(&View::new(Some(&before), &now)), Duration::ZERO);
        assert!(lines[0].starts_with("dhcp6d cannot be reached"), "{lines:#?}");
        assert_eq!(lines[1], "trying again: nobody listens");
        assert!(lines.iter().any(|line| line.starts_with("eth1")), "{lines:#?}");

        now.fast_path = FastPathSample::Unreadable("no pins".to_owned());
        let lines = drawn(80, 24, Some(&View::new(Some(&before), &now)), Duration::ZERO);
        assert_eq!(lines[3], "no pins");
    }

    #[test]
    fn rows_are_shared_evenly_where_there_are_too_few() {
        assert_eq!(share(10, [1, 2, 3]), [1, 2, 3]);
        assert_eq!(share(10, [1, 20, 20]), [1, 5, 4]);
        assert_eq!(share(2, [0, 1, 9]), [0, 1, 1]);
        assert_eq!(share(0, [1, 1, 1]), [0, 0, 0]);
    }

    #[test]
    fn rates_are_short() {
        for (rate, text) in [
            (None, "-"),
            (Some(0.0), "0"),
            (Some(0.5), "0.5"),
            (Some(9.96), "10"),
            (Some(999_999.0), "999999"),
            (Some(14_880_000.0), "14.88M"),
        ] {
            assert_eq!(per_second(rate), text);
        }
    }

    #[test]
    fn a_bar_is_full_only_where_all_is_used() {
        for (share, width, text) in [
            (0.0, 4, "░░░░"),
            (0.001, 4, "█░░░"),
            (0.5, 4, "██░░"),
            (0.999, 4, "███░"),
            (1.0, 4, "████"),
            (0.5, 1, "█"),
            (0.5, 0, ""),
        ] {
            assert_eq!(bar(share, width), text);
        }
    }
}
