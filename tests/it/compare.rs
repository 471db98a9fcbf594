//! The output of `cargo bench --bench compare`, without a measurement.
#![cfg(target_os = "linux")]
#![allow(dead_code, missing_docs)]

#[path = "../../benches/compare/measure.rs"]
mod measure;
#[path = "../../benches/compare/page.rs"]
mod page;
#[path = "../../benches/compare/servers.rs"]
mod servers;
#[path = "../../benches/compare/table.rs"]
mod table;

use std::time::Duration;

use measure::Sample;
use page::Setting;
use reactor::load::{Kind, Plan, Report, Stats};
use table::{Figures, Row};

/// Returns a round of a second with `answered` answers.
fn sample(answered: u64) -> Sample {
    let mut stats = Stats::default();
    (stats.sent, stats.answered) = (answered, answered);
    stats.record(1_000);
    let mut plan = Plan::new(Kind::Echo, ([127, 0, 0, 1], 7));
    plan.duration = Duration::from_secs(1);
    let report = Report::new(plan, stats);
    Sample { report, cpu_micros: None, switches: 0.0, threads: 1, memory: 1 << 20 }
}

#[test]
fn one_round_has_no_spread() {
    let spread = |samples: &[Sample]| Figures::new(samples).unwrap().cells()[1].clone();
    assert_eq!(spread(&[sample(100)]), "one round");
    assert_eq!(spread(&[sample(90), sample(100), sample(110)]), "20 %");
    let rows = [Row { name: "one", connections: 1, figures: Figures::new(&[sample(100)]), trouble: vec![] }];
    assert!(table::json(&rows)[0]["figures"]["spread"].is_null());
    assert!(table::text(&rows, 1).contains("one round"));
}

#[test]
fn the_page_escapes_error_texts() {
    let trouble = vec!["cannot <connect> & \"go\"".to_owned()];
    let setting = Setting {
        contenders: vec![("one", "it")],
        connections: vec![1],
        rounds: (1, 0.4),
        machine: "a < b".to_owned(),
    };
    let html = page::page(&setting, &[Row { name: "one", connections: 1, figures: None, trouble }]);
    assert!(html.contains("cannot &lt;connect&gt; &amp; &quot;go&quot;") && !html.contains("<connect>"), "{html}");
    assert!(html.contains("a &lt; b. Each") && html.contains(" 1 round of 0.4 s, every"), "{html}");
}
