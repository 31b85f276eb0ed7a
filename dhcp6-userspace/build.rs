//! Embeds the XDP programs where `cargo xtask build` has left them.
//!
//! The variable DHCP6_XDP_OBJECT (set in .cargo/config.toml) names the object of the fast path; that of the load
//! generator lies beside it. Without one the daemon is built all the same, and serves without a fast path. An object
//! that is not there yet is created empty, so that cargo has a file to watch.

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=DHCP6_XDP_OBJECT");
    let fast_path = env::var_os("DHCP6_XDP_OBJECT");
    let fast_path = fast_path.as_ref().map(Path::new);
    let generator = fast_path.map(|object| object.with_file_name("dhcp6-flood.o"));
    embed(fast_path, "object.rs")?;
    embed(generator.as_deref(), "flood_object.rs")
}

/// Leaves an expression in a file of the build: the octets of an object, or that there are none.
fn embed(object: Option<&Path>, file: &str) -> Result<(), Box<dyn Error>> {
    let mut expression = "None".to_owned();
    if let Some(object) = object {
        if !object.exists() {
            if let Some(directory) = object.parent() {
                fs::create_dir_all(directory)?;
            }
            fs::write(object, [])?;
        }
        println!("cargo::rerun-if-changed={}", object.display());
        if fs::metadata(object)?.len() > 0 {
            expression =
                format!("Some(aya::include_bytes_aligned!(\"{}\"))", object.canonicalize()?.display());
        }
    }
    fs::write(Path::new(&env::var("OUT_DIR")?).join(file), expression)?;
    Ok(())
}
