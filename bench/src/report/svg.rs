//! Pictures as SVG: lines, bars, and a week of hours.
//!
//! Colours are classes, so that the page's style gives those of light, dark and paper; series differ
//! by dashes and marks too. A library that writes colours into the picture cannot do that, and this
//! is all that would be left of one.

use std::fmt::Write as _;

use super::axis::Axis;
use crate::model::DAYS;

/// Width of every picture, and the height of lines, in its own units.
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 306.0;
/// Room around the lines for marks of the axes.
const LEFT: f64 = 84.0;
const RIGHT: f64 = 22.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 56.0;
/// Looks that there are for series.
pub(super) const LOOKS: usize = 6;

/// Something to draw.
#[derive(Debug, Clone)]
pub(super) enum Picture {
    /// Values over an axis.
    Lines(Lines),
    /// One value each, with a name; a bar of `full` is as wide as the picture.
    Bars { bars: Vec<Bar>, full: f64 },
    /// Shares of one in each hour of a week.
    Week(Vec<f64>),
}

/// Values over an axis.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// What stands below the horizontal axis.
    pub(super) x_title: String,
    pub(super) x_shown: fn(f64) -> String,
    pub(super) y_shown: fn(f64) -> String,
    pub(super) series: Vec<Series>,
}

/// Points that belong together, in order.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// One value, with its spread.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) shown: String,
    pub(super) value: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// Text as it may stand in HTML and SVG.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A picture with a title for those who cannot see it.
pub(super) fn draw(picture: &Picture, title: &str) -> String {
    let (height, body) = match picture {
        Picture::Lines(lines) => (HEIGHT, draw_lines(lines)),
        Picture::Bars { bars, full } => draw_bars(bars, *full),
        Picture::Week(hours) => draw_week(hours),
    };
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{}\">\n{body}</svg>\n",
        escaped(title)
    )
}

fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, class: &str, words: &str) {
    let words = escaped(words);
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{words}</text>"
    );
}

fn draw_lines(lines: &Lines) -> String {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let x = |value: f64| LEFT + lines.x.place(value) * (right - LEFT);
    let y = |value: f64| bottom - lines.y.place(value) * (bottom - TOP);
    let mut out = String::new();
    for tick in lines.y.ticks() {
        let at = y(tick);
        let _ = writeln!(out, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>");
        text(&mut out, (LEFT - 8.0, at + 4.5), "end", "", &(lines.y_shown)(tick));
    }
    for tick in lines.x.ticks() {
        let at = x(tick);
        let _ = writeln!(out, "<path class=\"tick\" d=\"M{at:.1} {bottom}v5\"/>");
        text(&mut out, (at, bottom + 24.0), "middle", "", &(lines.x_shown)(tick));
    }
    let _ = writeln!(out, "<path class=\"axis\" d=\"M{LEFT} {bottom}H{right}\"/>");
    text(&mut out, (f64::midpoint(LEFT, right), HEIGHT - 8.0), "middle", "soft", &lines.x_title);
    for (number, series) in lines.series.iter().enumerate() {
        let look = number % LOOKS;
        let at = |(a, b): &(f64, f64)| format!("{:.1} {:.1}", x(*a), y(*b));
        let path: Vec<String> = series.points.iter().map(at).collect();
        let _ = writeln!(out, "<path class=\"line s{look}\" d=\"M{}\"/>", path.join("L"));
        for (a, b) in &series.points {
            let words =
                format!("{}, {}: {}", series.name, (lines.x_shown)(*a), (lines.y_shown)(*b));
            out +=
                &mark(look, x(*a), y(*b), if series.points.len() > 12 { 2.0 } else { 4.0 }, &words);
        }
    }
    out
}

/// A mark of a series: its form says which, besides its colour.
fn mark(look: usize, x: f64, y: f64, r: f64, words: &str) -> String {
    let form = match look % 3 {
        0 => format!("M{:.1} {y:.1}a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0z", x - r, d = 2.0 * r),
        1 => format!("M{:.1} {:.1}h{d}v{d}h-{d}z", x - r, y - r, d = 2.0 * r),
        _ => format!("M{x:.1} {:.1}l{r} {r}l-{r} {r}l-{r} -{r}z", y - r),
    };
    format!("<path class=\"mark s{look}\" d=\"{form}\"><title>{}</title></path>\n", escaped(words))
}

/// What a series looks like, for the list beside a picture.
pub(super) fn key(number: usize) -> String {
    let look = number % LOOKS;
    format!(
        "<svg class=\"key\" viewBox=\"0 0 34 14\" aria-hidden=\"true\"><path class=\"line s{look}\" \
         d=\"M1 7H33\"/>{}</svg>",
        mark(look, 17.0, 7.0, 4.0, "").replace("<title></title>", "").trim_end()
    )
}

fn draw_bars(bars: &[Bar], full: f64) -> (f64, String) {
    const ROW: f64 = 40.0;
    let wide = |value: f64| value / full * (WIDTH - 4.0);
    let mut out = String::new();
    for (number, bar) in bars.iter().enumerate() {
        let top = number as f64 * ROW;
        text(&mut out, (2.0, top + 15.0), "start", "", &bar.name);
        text(&mut out, (WIDTH - 2.0, top + 15.0), "end", "strong", &bar.shown);
        let (y, width) = (top + 21.0, wide(bar.value).max(1.0));
        let _ = writeln!(
            out,
            "<rect class=\"back\" x=\"2\" y=\"{y}\" width=\"{:.1}\" height=\"11\"/>",
            WIDTH - 4.0
        );
        let _ = writeln!(
            out,
            "<rect class=\"bar\" x=\"2\" y=\"{y}\" width=\"{width:.1}\" height=\"11\"/>"
        );
        if bar.high > bar.low {
            let (low, high, middle) = (2.0 + wide(bar.low), 2.0 + wide(bar.high), y + 5.5);
            let _ = writeln!(
                out,
                "<path class=\"spread\" d=\"M{low:.1} {:.1}v7M{low:.1} {middle:.1}H{high:.1}M{high:.1} \
                 {:.1}v7\"/>",
                y + 2.0,
                y + 2.0
            );
        }
    }
    (bars.len() as f64 * ROW, out)
}

fn draw_week(hours: &[f64]) -> (f64, String) {
    let (left, top, cell) = (44.0, 22.0, 19.5);
    let mut out = String::new();
    for hour in (0..24).step_by(3) {
        let at = left + (f64::from(hour) + 0.5) * cell;
        text(&mut out, (at, 15.0), "middle", "", &format!("{hour:02}"));
    }
    for (day, hours) in hours.chunks(24).enumerate() {
        let y = top + day as f64 * (cell + 3.0);
        text(&mut out, (left - 8.0, y + 15.0), "end", "", DAYS[day % 7]);
        for (hour, share) in hours.iter().enumerate() {
            let x = left + hour as f64 * cell;
            let size = cell - 2.0;
            let _ = writeln!(
                out,
                "<rect class=\"cell\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{size}\" height=\"{}\" \
                 style=\"fill-opacity:{:.2}\"><title>{} {hour:02}:00: {:.0} %</title></rect>",
                cell,
                0.06 + 0.94 * share.clamp(0.0, 1.0),
                DAYS[day % 7],
                share * 100.0
            );
        }
    }
    let y = top + 7.0 * (cell + 3.0) + 12.0;
    for step in 0..=10 {
        let share = f64::from(step) / 10.0;
        let x = left + f64::from(step) * 24.0;
        let _ = writeln!(
            out,
            "<rect class=\"cell\" x=\"{x}\" y=\"{y:.1}\" width=\"24\" height=\"12\" \
             style=\"fill-opacity:{:.2}\"/>",
            0.06 + 0.94 * share
        );
    }
    text(&mut out, (left, y + 29.0), "start", "soft", "0 %");
    text(&mut out, (left + 264.0, y + 29.0), "end", "soft", "100 % of the links");
    (y + 38.0, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_place() {
        assert_eq!(escaped("<a b=\"c\">&"), "&lt;a b=&quot;c&quot;&gt;&amp;");
        let bar =
            Bar { name: "<script>".into(), shown: "1".into(), value: 1.0, low: 1.0, high: 1.0 };
        let svg = draw(&Picture::Bars { bars: vec![bar], full: 1.0 }, "\"");
        assert!(svg.contains("&lt;script&gt;") && svg.contains("aria-label=\"&quot;\""));
    }

    #[test]
    fn points_lie_where_the_axes_say() {
        let series = Series { name: "x".into(), points: vec![(0.0, 0.0), (10.0, 4.0)] };
        let lines = Lines {
            x: Axis::Linear { max: 10.0 },
            y: Axis::Linear { max: 4.0 },
            x_title: String::new(),
            x_shown: |x| x.to_string(),
            y_shown: |y| y.to_string(),
            series: vec![series],
        };
        let svg = draw(&Picture::Lines(lines), "");
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let path = format!("class=\"line s0\" d=\"M{LEFT:.1} {bottom:.1}L{right:.1} {TOP:.1}\"");
        assert!(svg.contains(&path), "{svg}");
    }

    #[test]
    fn a_week_has_its_hours() {
        let (_, svg) = draw_week(&vec![0.5; 168]);
        assert_eq!(svg.matches("<title>").count(), 168);
        assert!(svg.contains("Sun 23:00: 50 %"));
    }
}
