//! Embeds the XDP program where `cargo xtask build` has left it.
//!
//! The variable DHCP6_XDP_OBJECT (set in .cargo/config.toml) names the object. Without one the daemon is built
//! all the same, and serves without a fast path. An object that is not there yet is created empty, so that
//! cargo has a file to watch.

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=DHCP6_XDP_OBJECT");
    let mut expression = "None".to_owned();
    if let Some(object) = env::var_os("DHCP6_XDP_OBJECT") {
        let object = Path::new(&object);
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
    fs::write(Path::new(&env::var("OUT_DIR")?).join("object.rs"), expression)?;
    Ok(())
}
