//! The index page: the routes of the http service, and the other services.
//!
//! Owns: the page, which loads no script, font or picture. Must not know: which services exist.

use std::fmt::Write;

use crate::protocol::http::ROUTES;

const BEGINNING: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>reactor</title>
<link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; --line: #8884; --quiet: #888; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 44rem; margin: 0 auto; padding: 3rem 1.25rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 .5rem; }
p { margin: .5rem 0; }
table { border-collapse: collapse; width: 100%; }
td { border-top: 1px solid var(--line); padding: .4rem 1.5rem .4rem 0; vertical-align: top; white-space: nowrap; }
td:last-child { width: 100%; padding-right: 0; white-space: normal; }
.where { color: var(--quiet); font-variant-numeric: tabular-nums; }
a, code { font-family: ui-monospace, monospace; font-size: .95em; }
</style>
</head>
<body>
<h1>reactor</h1>
<p>One thread and one poll loop serve this page.</p>
"#;

/// A service as the page shows it.
pub struct Row {
    /// The name on the command line.
    pub name: &'static str,
    /// `tcp` or `udp`.
    pub transport: &'static str,
    /// The default port.
    pub port: u16,
    /// A description in one line.
    pub about: &'static str,
}

/// Returns the page, in HTML, with a row for each of `services`.
pub fn page(services: impl Iterator<Item = Row>) -> String {
    let mut page = BEGINNING.to_owned();
    // Writing to a string cannot fail.
    let _ = write_tables(&mut page, services);
    page
}

fn write_tables(page: &mut String, services: impl Iterator<Item = Row>) -> std::fmt::Result {
    writeln!(page, "<h2>Routes</h2>\n<table>")?;
    for route in ROUTES {
        let (path, about) = (route.path, route.about);
        writeln!(page, "<tr><td><a href=\"{path}\">{path}</a></td><td>{about}</td></tr>")?;
    }
    writeln!(page, "</table>\n<h2>Services and their usual ports</h2>\n<table>")?;
    for Row { name, transport, port, about } in services {
        writeln!(
            page,
            "<tr><td><code>{name}</code></td><td class=\"where\">{transport} {port}</td><td>{about}</td></tr>"
        )?;
    }
    page.write_str("</table>\n</body>\n</html>\n")
}
