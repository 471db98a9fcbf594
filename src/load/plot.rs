//! Lines on a plane, as SVG.
//!
//! Owns: [`Plot`]. Must not know: the meaning of the values. The picture is self-contained: no script, no font, no style
//! sheet.

use std::fmt::Write;

const WIDTH: f64 = 840.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 84.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 56.0;
/// The width of the list of names, in a picture with more than one line.
const NAMES: f64 = 190.0;
/// Space for half of the last mark.
const MARGIN: f64 = 40.0;

/// Colours that readers with colour blindness can distinguish (Okabe and Ito, 2008).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// The positions of values along an axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scale {
    /// Equal steps from 0.
    Linear,
    /// Equal space for each factor of ten.
    Log,
    /// Shares below 1: equal space for each further nine (90 %, 99 %, 99.9 %).
    Nines,
}

/// An axis: its label, the positions of its values, and their notation.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    label: &'static str,
    scale: Scale,
    write: fn(f64) -> String,
}

impl Axis {
    /// An axis from 0 in equal steps. `write` formats a value.
    pub fn linear(label: &'static str, write: fn(f64) -> String) -> Self {
        Self { label, scale: Scale::Linear, write }
    }

    /// A logarithmic axis for values above 0. `write` formats a value.
    pub fn log(label: &'static str, write: fn(f64) -> String) -> Self {
        Self { label, scale: Scale::Log, write }
    }

    /// An axis of shares, with equal space for each further nine.
    pub fn nines(label: &'static str) -> Self {
        Self { label, scale: Scale::Nines, write: percent }
    }

    /// Returns the position of `value`, in units of the scale.
    fn position(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
            Scale::Nines => -(1.0 - value).max(1e-12).log10(),
        }
    }

    /// Returns the values of the marks, from the first to the last position of the axis.
    fn marks(&self, values: &[f64]) -> Vec<f64> {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        match self.scale {
            Scale::Linear => {
                let step = linear_step(high);
                (0..=(high / step).ceil().max(1.0) as usize).map(|n| n as f64 * step).collect()
            }
            Scale::Log => {
                let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
                let decades = (first..=last.max(first + 1)).map(|power| 10f64.powi(power));
                let steps: &[f64] = if last - first > 4 { &[1.0] } else { &[1.0, 2.0, 5.0] };
                let all: Vec<_> = decades.flat_map(|decade| steps.iter().map(move |step| decade * step)).collect();
                let from = all.iter().rposition(|&mark| mark <= low).unwrap_or(0);
                let to = all.iter().position(|&mark| mark >= high).unwrap_or(all.len() - 1);
                all[from..=to.max(from + 1).min(all.len() - 1)].to_vec()
            }
            Scale::Nines => {
                let nines = self.position(high).ceil().clamp(1.0, 9.0) as i32;
                let mut marks: Vec<_> = (0..=nines).map(|n| 1.0 - 10f64.powi(-n)).collect();
                // The median is the most common question. Among many nines there is no space for it.
                if nines <= 4 {
                    marks.insert(1, 0.5);
                }
                marks
            }
        }
    }
}

/// Returns a step of 1, 2 or 5 times a power of ten, such that four to ten steps reach `high`.
fn linear_step(high: f64) -> f64 {
    let high = if high > 0.0 { high } else { 1.0 };
    let decade = 10f64.powf((high / 4.0).log10().floor());
    [5.0, 2.0].into_iter().map(|factor| factor * decade).find(|step| high / step >= 4.0).unwrap_or(decade)
}

/// One line.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Line {
    /// The name.
    pub name: String,
    /// The points, in the order in which the line joins them.
    pub points: Vec<(f64, f64)>,
}

impl Line {
    /// A line through `points`.
    pub fn new(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self { name: name.into(), points: points.into_iter().collect() }
    }
}

/// A picture with two axes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plot {
    /// The title.
    pub title: String,
    /// The axis from left to right.
    pub x: Axis,
    /// The axis from the bottom up.
    pub y: Axis,
    /// The lines.
    pub lines: Vec<Line>,
}

impl Plot {
    /// A picture of `lines`.
    pub fn new(title: impl Into<String>, x: Axis, y: Axis, lines: impl IntoIterator<Item = Line>) -> Self {
        Self { title: title.into(), x, y, lines: lines.into_iter().collect() }
    }

    /// Returns the picture as a self-contained document. Points without a position on an axis are omitted.
    pub fn to_svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             font-family=\"system-ui, sans-serif\" font-size=\"13\" role=\"img\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
             <text x=\"{LEFT}\" y=\"26\" font-size=\"16\" font-weight=\"600\" fill=\"#222222\">{}</text>\n",
            escaped(&self.title)
        );
        let lines: Vec<_> = self.lines.iter().map(|line| (line, self.drawable(line))).collect();
        let points = || lines.iter().flat_map(|(_, points)| points.iter().copied());
        if points().next().is_none() {
            let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"80\" fill=\"#222222\">nothing was measured</text>\n</svg>");
            return svg;
        }
        let columns = self.x.marks(&points().map(|(x, _)| x).collect::<Vec<_>>());
        let rows = self.y.marks(&points().map(|(_, y)| y).collect::<Vec<_>>());
        let across = ruler(&self.x, &columns, LEFT, self.right());
        let up = ruler(&self.y, &rows, HEIGHT - BOTTOM, TOP);
        self.draw_axes(&mut svg, (&columns, &across), (&rows, &up));
        for (n, (line, points)) in lines.iter().enumerate() {
            // A line without points keeps its colour, which other pictures of the same lines use.
            draw_line(&mut svg, n, points.iter().map(|&(x, y)| (across(x), up(y))).collect());
            if lines.len() > 1 && !points.is_empty() {
                write_name(&mut svg, n, &line.name);
            }
        }
        svg + "</svg>\n"
    }

    /// Returns the right edge of the plane.
    fn right(&self) -> f64 {
        WIDTH - if self.lines.len() > 1 { NAMES } else { MARGIN }
    }

    /// Returns the points of a line that have a position on both axes.
    fn drawable(&self, line: &Line) -> Vec<(f64, f64)> {
        let has_position = |axis: &Axis, value: f64| value.is_finite() && (axis.scale != Scale::Log || value > 0.0);
        line.points.iter().copied().filter(|&(x, y)| has_position(&self.x, x) && has_position(&self.y, y)).collect()
    }

    fn draw_axes(
        &self,
        svg: &mut String,
        (columns, across): (&[f64], &dyn Fn(f64) -> f64),
        (rows, up): (&[f64], &dyn Fn(f64) -> f64),
    ) {
        let (right, bottom) = (self.right(), HEIGHT - BOTTOM);
        for &mark in rows {
            let (y, text) = (up(mark), escaped(&(self.y.write)(mark)));
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#444444\">{text}</text>",
                LEFT - 8.0,
                y + 4.5
            );
        }
        for &mark in columns {
            let (x, text) = (across(mark), escaped(&(self.x.write)(mark)));
            let _ = writeln!(
                svg,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"#eeeeee\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#444444\">{text}</text>",
                bottom + 18.0
            );
        }
        let (middle, centre) = ((LEFT + right) / 2.0, (TOP + bottom) / 2.0);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"#444444\"/>\n\
             <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#222222\">{}</text>\n\
             <text x=\"18\" y=\"{centre:.1}\" text-anchor=\"middle\" fill=\"#222222\" transform=\"rotate(-90 18 {centre:.1})\">{}</text>",
            HEIGHT - 12.0,
            escaped(self.x.label),
            escaped(self.y.label)
        );
    }
}

/// Returns the map from values to coordinates: the first of `marks` lies at `from`, the last at `to`.
fn ruler(axis: &Axis, marks: &[f64], from: f64, to: f64) -> impl Fn(f64) -> f64 {
    let position = |mark: Option<&f64>| mark.map_or(0.0, |&mark| axis.position(mark));
    let (first, last) = (position(marks.first()), position(marks.last()));
    let axis = *axis;
    move |value| from + (axis.position(value) - first) / (last - first) * (to - from)
}

/// Draws a line, and its points if they are few.
fn draw_line(svg: &mut String, n: usize, points: Vec<(f64, f64)>) {
    let colour = COLOURS[n % COLOURS.len()];
    let path: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-linejoin=\"round\"/>",
        path.join(" ")
    );
    if points.len() <= 12 {
        for (x, y) in points {
            let _ = write!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
        }
    }
}

/// Writes the name of a line into the list at the right.
fn write_name(svg: &mut String, n: usize, name: &str) {
    let colour = COLOURS[n % COLOURS.len()];
    let (x, y) = (WIDTH - NAMES + 16.0, TOP + 12.0 + 22.0 * n as f64);
    let _ = writeln!(
        svg,
        "<line x1=\"{x}\" x2=\"{:.1}\" y1=\"{y}\" y2=\"{y}\" stroke=\"{colour}\" stroke-width=\"3\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#222222\">{}</text>",
        x + 20.0,
        x + 27.0,
        y + 4.5,
        escaped(name)
    );
}

/// Escapes text for XML and HTML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Rounds to three digits, or to a whole number if that has more.
fn rounded(value: f64) -> f64 {
    let fraction = match value {
        value if value >= 100.0 => 1.0,
        value if value >= 10.0 => 10.0,
        _ => 100.0,
    };
    (value * fraction).round() / fraction
}

/// Writes a value with the first of `units` in which the rounded value is below `base`, or with the last unit. Each unit is
/// `base` times the unit before.
fn with_unit(mut value: f64, base: f64, units: &[&str]) -> String {
    let mut units = units.iter();
    let mut unit = units.next();
    while rounded(value) >= base
        && let Some(larger) = units.next()
    {
        value /= base;
        unit = Some(larger);
    }
    format!("{}{}", rounded(value), unit.unwrap_or(&""))
}

/// Writes nanoseconds with a suitable unit.
pub fn nanos(nanos: f64) -> String {
    with_unit(nanos, 1e3, &[" ns", " µs", " ms", " s"])
}

/// Writes a number with a suitable decimal prefix. Four digits need none.
pub fn number(value: f64) -> String {
    if rounded(value) < 1e4 { rounded(value).to_string() } else { with_unit(value / 1e3, 1e3, &["k", "M"]) }
}

/// Writes bytes with a suitable binary prefix.
pub fn bytes(bytes: f64) -> String {
    with_unit(bytes, 1024.0, &[" B", " KiB", " MiB", " GiB"])
}

/// Writes a share in percent with all its nines.
fn percent(share: f64) -> String {
    let text = format!("{:.7}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_enclose_the_values() {
        let log = Axis::log("", nanos);
        for (low, high) in [(1.0, 1.0), (12.0, 90.0), (900.0, 4_000_000.0), (3e3, 8e9), (1.0, 5000.0)] {
            let marks = log.marks(&[high, low]);
            assert!(marks[0] <= low && *marks.last().unwrap() >= high && marks.len() >= 2, "{low} {high}: {marks:?}");
            assert!(marks.len() <= 15, "{marks:?}");
        }
        let linear = Axis::linear("", number);
        for high in [0.0, 0.3, 1.0, 7.0, 99_999.0, 412_345.0] {
            let marks = linear.marks(&[0.0, high]);
            assert!(marks[0] == 0.0 && *marks.last().unwrap() >= high, "{high}: {marks:?}");
            assert!((2..=12).contains(&marks.len()), "{high}: {marks:?}");
        }
        let nines: Vec<_> = Axis::nines("").marks(&[0.0, 0.9995]).into_iter().map(percent).collect();
        assert_eq!(nines, ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }

    #[test]
    fn values_are_written_with_their_units() {
        assert_eq!([nanos(999.0), nanos(1_500.0), nanos(2e7), nanos(3e9)], ["999 ns", "1.5 µs", "20 ms", "3 s"]);
        assert_eq!([number(5_000.0), number(412_345.0), number(2e6)], ["5000", "412k", "2M"]);
        assert_eq!([bytes(100.0), bytes(1_536.0), bytes(3.0 * 1024.0 * 1024.0)], ["100 B", "1.5 KiB", "3 MiB"]);
        // A value that rounds up to a whole unit has that unit.
        assert_eq!([nanos(999_499.0), nanos(999_600.0), nanos(999_999_999.0)], ["999 µs", "1 ms", "1 s"]);
        assert_eq!([nanos(0.0), nanos(1e12), nanos(99.96e3)], ["0 ns", "1000 s", "100 µs"]);
        assert_eq!([number(9_999.6), number(999_600.0), number(2e9)], ["10k", "1M", "2000M"]);
        assert_eq!([bytes(1_023.6 * 1024.0), bytes(1_000.0 * 1024.0)], ["1 MiB", "1000 KiB"]);
    }

    #[test]
    fn special_characters_and_missing_points_do_not_break_the_picture() {
        let line = |points: &[(f64, f64)]| Line::new("<&\">", points.to_vec());
        let plot = |lines: Vec<Line>| Plot::new("a < b", Axis::nines("x"), Axis::log("y", nanos), lines);
        let svg = plot(vec![line(&[(0.5, 10.0), (0.9, 0.0), (0.99, f64::NAN), (0.999, 1e6)]), line(&[])]).to_svg();
        assert!(!svg.contains("NaN") && !svg.contains("inf") && svg.contains("&lt;&amp;&quot;&gt;"), "{svg}");
        assert!(plot(vec![]).to_svg().contains("nothing was measured"));
    }
}
