//! OpenMetrics text → Prometheus text 0.0.4: the same samples, with other names on the lines that describe them.

use std::fmt::Write as _;

/// The older format has `# TYPE x_total counter`, and no `info`, unit or end mark.
pub(super) fn prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 512);
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map(|(_, words)| words);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                other => ("", other),
            };
            if let Some(help) = help.take() {
                writeln!(text, "# HELP {name}{suffix} {help}")
                    .expect("writing to a String does not fail");
            }
            writeln!(text, "# TYPE {name}{suffix} {kind}")
                .expect("writing to a String does not fail");
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_infos_get_their_full_names() {
        let open = "# HELP a A.\n# TYPE a counter\na_total 1\n# HELP b B.\n# TYPE b info\nb_info{v=\"1\"} 1\n# UNIT c s\n# EOF\n";
        assert_eq!(
            prometheus(open),
            "# HELP a_total A.\n# TYPE a_total counter\na_total 1\n# HELP b_info B.\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n"
        );
    }
}
