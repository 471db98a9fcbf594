//! Lines on a plane, as SVG.
//!
//! Owns: [`Plot`]. Must not know: what is drawn. The picture needs nothing else: no script, no font, no style sheet.

use std::fmt::Write;

const WIDTH: f64 = 840.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 84.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 56.0;
/// Room for the names of the lines, where there is more than one.
const NAMES: f64 = 190.0;
/// Room for half of the last mark.
const MARGIN: f64 = 40.0;

/// Told apart by those who see colours otherwise, too (Okabe and Ito, 2008).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// How values are laid out along an axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scale {
    /// From 0, in equal steps.
    Linear,
    /// Each factor of ten takes as much room.
    Log,
    /// Shares below 1: each further nine (90 %, 99 %, 99.9 %) takes as much room.
    Nines,
}

/// An axis: its label, and how its values are laid out and written.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    label: &'static str,
    scale: Scale,
    write: fn(f64) -> String,
}

impl Axis {
    /// Values from 0, in equal steps.
    pub fn linear(label: &'static str, write: fn(f64) -> String) -> Self {
        Self { label, scale: Scale::Linear, write }
    }

    /// Values above 0, each factor of ten as far from the next.
    pub fn log(label: &'static str, write: fn(f64) -> String) -> Self {
        Self { label, scale: Scale::Log, write }
    }

    /// Shares of all, each further nine as far from the next.
    pub fn nines(label: &'static str) -> Self {
        Self { label, scale: Scale::Nines, write: percent }
    }

    /// Where `value` lies on a ruler.
    fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
            Scale::Nines => -(1.0 - value).max(1e-12).log10(),
        }
    }

    /// The values at which there are marks, from the first to the last place of the axis.
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
                let nines = self.place(high).ceil().clamp(1.0, 9.0) as i32;
                let mut marks: Vec<_> = (0..=nines).map(|n| 1.0 - 10f64.powi(-n)).collect();
                // The median is what most ask for first. Among many nines there is no room for it.
                if nines <= 4 {
                    marks.insert(1, 0.5);
                }
                marks
            }
        }
    }
}

/// A step of 1, 2 or 5 times a power of ten, of which four to ten make `high`.
fn linear_step(high: f64) -> f64 {
    let high = if high > 0.0 { high } else { 1.0 };
    let decade = 10f64.powf((high / 4.0).log10().floor());
    [5.0, 2.0].into_iter().map(|factor| factor * decade).find(|step| high / step >= 4.0).unwrap_or(decade)
}

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Its points, in the order in which they are joined.
    pub points: Vec<(f64, f64)>,
}

/// A picture with two axes.
#[derive(Clone, Debug)]
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// From left to right.
    pub x: Axis,
    /// From the bottom up.
    pub y: Axis,
    /// The lines.
    pub lines: Vec<Line>,
}

impl Plot {
    /// The picture as a document of its own. Points that an axis has no place for are left out.
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
            // One without points keeps its colour for other pictures of the same lines.
            draw_line(&mut svg, n, points.iter().map(|&(x, y)| (across(x), up(y))).collect());
            if lines.len() > 1 && !points.is_empty() {
                write_name(&mut svg, n, &line.name);
            }
        }
        svg + "</svg>\n"
    }

    /// Where the plane ends.
    fn right(&self) -> f64 {
        WIDTH - if self.lines.len() > 1 { NAMES } else { MARGIN }
    }

    /// The points of a line that have a place on both axes.
    fn drawable(&self, line: &Line) -> Vec<(f64, f64)> {
        let has_place = |axis: &Axis, value: f64| value.is_finite() && (axis.scale != Scale::Log || value > 0.0);
        line.points.iter().copied().filter(|&(x, y)| has_place(&self.x, x) && has_place(&self.y, y)).collect()
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

/// From a value to a coordinate: the first of `marks` lies at `from`, the last at `to`.
fn ruler(axis: &Axis, marks: &[f64], from: f64, to: f64) -> impl Fn(f64) -> f64 {
    let place = |mark: Option<&f64>| mark.map_or(0.0, |&mark| axis.place(mark));
    let (first, last) = (place(marks.first()), place(marks.last()));
    let axis = *axis;
    move |value| from + (axis.place(value) - first) / (last - first) * (to - from)
}

/// A line, and its points if they are few.
fn draw_line(svg: &mut String, n: usize, places: Vec<(f64, f64)>) {
    let colour = COLOURS[n % COLOURS.len()];
    let path: Vec<_> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-linejoin=\"round\"/>",
        path.join(" ")
    );
    if places.len() <= 12 {
        for (x, y) in places {
            let _ = write!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
        }
    }
}

/// The name of a line, in the list at the right.
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

/// Text as XML and HTML want it.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Three digits, or as many as a whole number has.
fn rounded(value: f64) -> f64 {
    let fraction = match value {
        value if value >= 100.0 => 1.0,
        value if value >= 10.0 => 10.0,
        _ => 100.0,
    };
    (value * fraction).round() / fraction
}

/// A value with the first of `units` in which it is less than `base` as it is written, or with the last. Each is `base`
/// times the one before.
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

/// Nanoseconds, with the unit that suits.
pub fn nanos(nanos: f64) -> String {
    with_unit(nanos, 1e3, &[" ns", " µs", " ms", " s"])
}

/// A number, with the decimal prefix that suits. Four digits need none.
pub fn number(value: f64) -> String {
    if rounded(value) < 1e4 { rounded(value).to_string() } else { with_unit(value / 1e3, 1e3, &["k", "M"]) }
}

/// Bytes, with the binary prefix that suits.
pub fn bytes(bytes: f64) -> String {
    with_unit(bytes, 1024.0, &[" B", " KiB", " MiB", " GiB"])
}

/// A share, with as many nines as it has.
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
        // What is rounded up to a whole unit has that unit.
        assert_eq!([nanos(999_499.0), nanos(999_600.0), nanos(999_999_999.0)], ["999 µs", "1 ms", "1 s"]);
        assert_eq!([nanos(0.0), nanos(1e12), nanos(99.96e3)], ["0 ns", "1000 s", "100 µs"]);
        assert_eq!([number(9_999.6), number(999_600.0), number(2e9)], ["10k", "1M", "2000M"]);
        assert_eq!([bytes(1_023.6 * 1024.0), bytes(1_000.0 * 1024.0)], ["1 MiB", "1000 KiB"]);
    }

    #[test]
    fn text_and_holes_do_not_break_the_picture() {
        let line = |points: &[(f64, f64)]| Line { name: "<&\">".to_owned(), points: points.to_vec() };
        let plot = |lines| Plot { title: "a < b".to_owned(), x: Axis::nines("x"), y: Axis::log("y", nanos), lines };
        let svg = plot(vec![line(&[(0.5, 10.0), (0.9, 0.0), (0.99, f64::NAN), (0.999, 1e6)]), line(&[])]).to_svg();
        assert!(!svg.contains("NaN") && !svg.contains("inf") && svg.contains("&lt;&amp;&quot;&gt;"), "{svg}");
        assert!(plot(vec![]).to_svg().contains("nothing was measured"));
    }
}
