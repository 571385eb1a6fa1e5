//! Plots as SVG, written by hand: bars and lines are all that the page needs.

use std::fmt::Write as _;

/// Width of a plot in user units.
const WIDTH: f64 = 760.0;
/// Room for the labels on the left.
const LEFT: f64 = 190.0;
/// Room on the right.
const RIGHT: f64 = 70.0;
/// Colours that people who see colours differently can tell apart (Okabe and Ito 2008).
const COLOURS: [&str; 4] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7"];

/// A bar, with the range that was measured if there is one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bar {
    /// How long it is.
    pub(crate) value: f64,
    /// The lowest and highest measured.
    pub(crate) range: Option<(f64, f64)>,
}

/// Horizontal bars, several to each label. `unit` is written behind each value.
pub(crate) fn bars(title: &str, unit: &str, series: &[&str], rows: &[(String, Vec<Bar>)]) -> String {
    const BAR: f64 = 15.0;
    const GAP: f64 = 12.0;
    let values = rows.iter().flat_map(|(_, bars)| bars).flat_map(|bar| {
        let (low, high) = bar.range.unwrap_or((bar.value, bar.value));
        [bar.value, low, high]
    });
    let (low, high) = values.fold((0.0_f64, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    let ticks = linear_ticks(low, high);
    let (first, last) = (ticks.first().copied().unwrap_or(0.0), ticks.last().copied().unwrap_or(1.0));
    let x = |value: f64| LEFT + (value - first) / (last - first) * (WIDTH - LEFT - RIGHT);
    let mut body = String::new();
    let mut y = 62.0;
    let top = y - 6.0;
    for (label, bars) in rows {
        let middle = y + BAR * bars.len() as f64 / 2.0;
        text(&mut body, LEFT - 8.0, middle + 4.0, "end", label);
        for (bar, colour) in bars.iter().zip(COLOURS) {
            let (from, to) = (x(bar.value.min(0.0)), x(bar.value.max(0.0)));
            let _ = writeln!(
                body,
                r#"<rect x="{from:.1}" y="{y:.1}" width="{:.1}" height="{:.1}" fill="{colour}"/>"#,
                (to - from).max(0.5),
                BAR - 2.0
            );
            let mut end = to;
            if let Some((low, high)) = bar.range {
                let middle = y + BAR / 2.0 - 1.0;
                line(&mut body, (x(low), middle), (x(high), middle), "#222", "1.2");
                end = end.max(x(high));
            }
            text(&mut body, end + 5.0, y + BAR - 4.0, "start", &format!("{} {unit}", short(bar.value)));
            y += BAR;
        }
        y += GAP;
    }
    let mut grid = String::new();
    for tick in &ticks {
        line(&mut grid, (x(*tick), top), (x(*tick), y), if tick.abs() < 1e-9 { "#555" } else { "#ddd" }, "1");
        text(&mut grid, x(*tick), y + 15.0, "middle", &short(*tick));
    }
    document(title, y + 28.0, series, &(grid + &body))
}

/// Lines over a logarithmic axis; both axes name what they show. `log_y` makes the other one logarithmic too.
pub(crate) fn lines(
    title: &str,
    (x_name, y_name): (&str, &str),
    log_y: bool,
    series: &[(&str, Vec<(f64, f64)>)],
) -> String {
    const HEIGHT: f64 = 250.0;
    const TOP: f64 = 66.0;
    const SIDE: f64 = 70.0;
    let points = || series.iter().flat_map(|(_, points)| points.iter().copied());
    let mut stops: Vec<f64> = points().map(|(x, _)| x).collect();
    stops.sort_by(f64::total_cmp);
    stops.dedup();
    let (low, high) = points().fold((f64::MAX, f64::MIN), |(low, high), (_, y)| (low.min(y), high.max(y)));
    let ticks = if log_y { decades(low, high) } else { linear_ticks(0.0, high) };
    let scale = |value: f64| if log_y { value.max(1e-9).log10() } else { value };
    let (first, last) = (scale(*ticks.first().unwrap_or(&0.0)), scale(*ticks.last().unwrap_or(&1.0)));
    let y = |value: f64| TOP + HEIGHT - (scale(value) - first) / (last - first) * HEIGHT;
    // Zero has no logarithm: the stops stand at equal distances, and each is labelled.
    let x = |value: f64| {
        let index = stops.iter().position(|stop| stop.total_cmp(&value).is_eq()).unwrap_or(0) as f64;
        SIDE + 30.0 + index / (stops.len().max(2) - 1) as f64 * (WIDTH - SIDE - 130.0)
    };
    let mut body = String::new();
    for tick in &ticks {
        line(&mut body, (SIDE, y(*tick)), (WIDTH - 40.0, y(*tick)), "#ddd", "1");
        text(&mut body, SIDE - 8.0, y(*tick) + 4.0, "end", &short(*tick));
    }
    for stop in &stops {
        line(&mut body, (x(*stop), TOP + HEIGHT), (x(*stop), TOP + HEIGHT + 5.0), "#555", "1");
        text(&mut body, x(*stop), TOP + HEIGHT + 19.0, "middle", &short(*stop));
    }
    text(&mut body, f64::midpoint(SIDE, WIDTH - 40.0), TOP + HEIGHT + 38.0, "middle", x_name);
    text(&mut body, WIDTH - 40.0, TOP - 12.0, "end", y_name);
    for ((_, points), colour) in series.iter().zip(COLOURS) {
        let path: Vec<String> = points.iter().map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
        let _ =
            writeln!(body, r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#, path.join(" "));
        for point in points {
            let _ =
                writeln!(body, r#"<circle cx="{:.1}" cy="{:.1}" r="3.5" fill="{colour}"/>"#, x(point.0), y(point.1));
            text(&mut body, x(point.0) + 6.0, y(point.1) - 6.0, "start", &short(point.1));
        }
    }
    let names: Vec<&str> = series.iter().map(|(name, _)| *name).collect();
    document(title, TOP + HEIGHT + 50.0, &names, &body)
}

fn document(title: &str, height: f64, series: &[&str], body: &str) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" \
         height=\"{height:.0}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text x=\"16\" y=\"22\" font-size=\"15\" \
         font-weight=\"600\" fill=\"#222\">{}</text>\n",
        escape(title)
    );
    let mut at = 16.0;
    // One series needs no key.
    for (name, colour) in series.iter().zip(COLOURS).filter(|_| series.len() > 1) {
        let _ = writeln!(svg, r#"<rect x="{at:.1}" y="33" width="11" height="11" fill="{colour}"/>"#);
        text(&mut svg, at + 16.0, 43.0, "start", name);
        at += 16.0 + 7.0 * name.chars().count() as f64 + 18.0;
    }
    svg + body + "</svg>\n"
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    // Writing to a string cannot fail.
    let _ =
        writeln!(svg, r##"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="#222">{}</text>"##, escape(words));
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, width: &str) {
    let _ = writeln!(
        svg,
        r#"<line x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" stroke="{colour}" stroke-width="{width}"/>"#,
        from.0, from.1, to.0, to.1
    );
}

fn escape(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Round values from at most `low` to at least `high`, 0 among them if it lies between.
fn linear_ticks(low: f64, high: f64) -> Vec<f64> {
    let span = (high - low).max(1e-9);
    let magnitude = 10_f64.powf((span / 4.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * magnitude).into_iter().find(|step| span / step <= 6.0);
    let step = step.unwrap_or(span);
    let (first, last) = ((low / step).floor() as i64, (high / step).ceil() as i64);
    (first..=last.max(first + 1)).map(|index| index as f64 * step).collect()
}

/// Powers of ten around `low` and `high`.
fn decades(low: f64, high: f64) -> Vec<f64> {
    let first = low.max(1e-3).log10().floor() as i32;
    let last = (high.max(1e-3).log10().ceil() as i32).max(first + 1);
    (first..=last).map(|power| 10_f64.powi(power)).collect()
}

/// A number for people: three digits, thousands as k and M.
pub(crate) fn short(value: f64) -> String {
    let trim = |text: String| {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    };
    match value.abs() {
        size if size >= 999_500.0 => format!("{}M", trim(format!("{:.2}", value / 1e6))),
        size if size >= 9_950.0 => format!("{}k", trim(format!("{:.1}", value / 1e3))),
        size if size >= 99.5 => format!("{value:.0}"),
        size if size >= 9.95 => trim(format!("{value:.1}")),
        _ => trim(format!("{value:.2}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [
            (0.0, "0"),
            (0.254, "0.25"),
            (-3.0, "-3"),
            (12.34, "12.3"),
            (1_904.4, "1904"),
            (10_000.0, "10k"),
            (1e6, "1M"),
        ] {
            assert_eq!(short(value), expected, "{value}");
        }
    }

    #[test]
    fn ticks_are_round_and_hold_everything() {
        assert_eq!(linear_ticks(-3.0, 9.0), [-4.0, -2.0, 0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(linear_ticks(0.0, 0.0).len(), 2);
        assert_eq!(decades(2.3, 54.0), [1.0, 10.0, 100.0]);
    }

    #[test]
    fn names_cannot_break_the_document() {
        let svg =
            bars("a < b", "%", &["x"], &[("R&D".to_owned(), vec![Bar { value: -1.0, range: Some((-2.0, 1.0)) }])]);
        assert!(svg.contains("a &lt; b") && svg.contains("R&amp;D") && svg.ends_with("</svg>\n"), "{svg}");
    }
}
