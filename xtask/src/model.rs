//! `cargo xtask model`: the engine's model test, for longer than `cargo xtask test` takes for it.

use anyhow::Result;

use crate::command;
use crate::workspace::Workspace;

/// How many steps a sequence of the model test has on average; see `engine::tests::model`.
const STEPS_OF_A_CASE: u32 = 100;

/// Runs sequences of about `steps` random steps altogether, optimized, with a seed of its own.
///
/// # Errors
///
/// Where an invariant is broken: the shortest sequence of steps that does so has been printed.
pub(crate) fn run(workspace: &Workspace, steps: u32) -> Result<()> {
    let mut test = workspace.cargo();
    test.args(["test", "--release", "--package", "dhcp6-userspace", "--lib"]);
    test.args(["engine::tests::model", "--", "--nocapture"]);
    command::run(test.env("PROPTEST_CASES", steps.div_ceil(STEPS_OF_A_CASE).to_string()))
}
