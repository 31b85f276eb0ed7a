//! Running other programs.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs `command` with this program's own input and output.
///
/// # Errors
///
/// When it cannot be started, or when it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}; its output above says why", line(command));
    }
    Ok(())
}

/// Runs `command`, passes its standard output on as it comes, and hands each complete line to `each`.
///
/// # Errors
///
/// When it cannot be started, when its output cannot be passed on, or when it fails.
pub(crate) fn run_reading(command: &mut Command, mut each: impl FnMut(&str)) -> Result<()> {
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("starting `{}`", line(command)))?;
    if let Some(output) = child.stdout.take() {
        pass_on(output, io::stdout(), &mut each)
            .with_context(|| format!("passing on what `{}` prints", line(command)))?;
    }
    let status = child.wait().with_context(|| format!("waiting for `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}; its output above says why", line(command));
    }
    Ok(())
}

/// Runs `command`, hands each line of its error output to `each`, and returns whether it succeeded.
///
/// # Errors
///
/// When it cannot be started, or its output cannot be read.
pub(crate) fn watch_errors(command: &mut Command, mut each: impl FnMut(&str)) -> Result<bool> {
    let mut child =
        command.stderr(Stdio::piped()).spawn().with_context(|| format!("starting `{}`", line(command)))?;
    if let Some(output) = child.stderr.take() {
        pass_on(output, io::sink(), &mut each)
            .with_context(|| format!("reading what `{}` prints", line(command)))?;
    }
    let status = child.wait().with_context(|| format!("waiting for `{}`", line(command)))?;
    Ok(status.success())
}

/// Copies without waiting for whole lines, so that a test that hangs is seen by its name.
fn pass_on(mut from: impl Read, mut to: impl Write, each: &mut impl FnMut(&str)) -> io::Result<()> {
    let mut chunk = [0; 4096];
    let mut pending = Vec::new();
    loop {
        let length = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&chunk[..length])?;
        to.flush()?;
        pending.extend_from_slice(&chunk[..length]);
        while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
            let complete: Vec<u8> = pending.drain(..=end).collect();
            each(String::from_utf8_lossy(&complete).trim_end());
        }
    }
    if !pending.is_empty() {
        each(&String::from_utf8_lossy(&pending));
    }
    Ok(())
}

/// The command as one would type it.
fn line(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    // Cargo hands on its own full path, which says nothing to a reader.
    let program = if program.ends_with("/cargo") { "cargo" } else { &program };
    let mut line = program.to_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_passed_on_unchanged_and_split_into_lines() {
        let text = b"one\ntwo\r\n\nlast without an end";
        let (mut copy, mut lines) = (Vec::new(), Vec::new());
        pass_on(&text[..], &mut copy, &mut |line: &str| lines.push(line.to_owned()))
            .expect("no I/O involved");
        assert_eq!(copy, text);
        assert_eq!(lines, ["one", "two", "", "last without an end"]);
    }

    #[test]
    fn a_failing_command_is_named_with_its_arguments() {
        let error = run(Command::new("sh").args(["-c", "exit 3"])).expect_err("it exits with 3");
        assert_eq!(error.to_string(), "`sh -c exit 3` failed: exit status: 3; its output above says why");
    }

    #[test]
    fn the_path_of_cargo_is_left_out() {
        assert_eq!(line(Command::new("/opt/rust/bin/cargo").arg("build")), "cargo build");
    }
}
