//! Measures the server, and shows the results as tables, JSON and plots.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, builder::PossibleValuesParser};
use indicatif::ProgressBar;
use nix::unistd::Uid;
use tests::{
    bench::{Effort, Subject, machine::Machine, report::Report},
    server::binary,
};

/// Measures dhcp6d.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Arguments {
    /// What is measured; everything where nothing is named.
    #[arg(value_name = "SUBJECT", value_parser = PossibleValuesParser::new(Subject::ALL.map(Subject::name)))]
    subjects: Vec<String>,
    /// How often each thing is measured.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// One short run, to see that everything works; its numbers mean little.
    #[arg(long, conflicts_with = "runs")]
    quick: bool,
    /// One JSON document instead of tables.
    #[arg(long)]
    json: bool,
    /// The directory for tables, JSON and plots; bench/ in the directory of the build where none is named.
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !Uid::effective().is_root() {
        let complaint = "bench: this needs root, for network namespaces and BPF: sudo -E cargo xtask bench";
        if arguments.quick {
            tests::skip(complaint);
            return ExitCode::SUCCESS;
        }
        eprintln!("{complaint}");
        return ExitCode::FAILURE;
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure:?}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let effort = Effort { runs: if arguments.quick { 1 } else { arguments.runs }, quick: arguments.quick };
    let is_wanted = |subject: &Subject| {
        arguments.subjects.is_empty() || arguments.subjects.iter().any(|name| name == subject.name())
    };
    let output = arguments.output.clone().unwrap_or_else(default_output);
    let mut report = Report {
        machine: Machine::here(),
        command: command(arguments),
        runs: effort.runs,
        subjects: Vec::new(),
    };
    // Draws nothing where stderr is not a terminal.
    let spinner = ProgressBar::new_spinner();
    spinner.enable_steady_tick(std::time::Duration::from_millis(200));
    for subject in Subject::ALL.into_iter().filter(is_wanted) {
        let progress = |doing: &str| spinner.set_message(format!("{}: {doing}", subject.name()));
        report.subjects.push(subject.measure(effort, &progress)?);
        // What is measured is kept even where something else fails.
        report.save(&output)?;
    }
    spinner.finish_and_clear();
    if arguments.json {
        println!("{:#}", report.json());
    } else {
        print!("{report}");
        println!("tables, JSON and plots are in {}", output.display());
    }
    Ok(())
}

/// bench/ beside the directory of the programs that are measured.
fn default_output() -> PathBuf {
    let programs = binary("");
    let target = programs.canonicalize().ok().and_then(|directory| Some(directory.parent()?.to_owned()));
    target.unwrap_or_default().join("bench")
}

/// How the benchmark was called, as one would type it.
fn command(arguments: &Arguments) -> String {
    let mut words = vec!["cargo xtask bench".to_owned()];
    words.extend(arguments.subjects.iter().cloned());
    words.push(if arguments.quick { "--quick".to_owned() } else { format!("--runs {}", arguments.runs) });
    words.join(" ")
}
