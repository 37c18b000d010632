//! Names the code that a campaign ran on: a hash of everything in `mirror`, `cluster`, `pool` and here. Campaigns add up
//! while it stays the same.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

const CRATES: [&str; 4] = ["cluster", "mirror", "pool", "sim"];

fn main() -> std::io::Result<()> {
    let mut hash = Sha256::new();
    for name in CRATES {
        let home = Path::new("..").join(name);
        let mut files = vec![home.join("Cargo.toml")];
        collect(&home.join("src"), &mut files)?;
        files.sort();
        for file in files {
            println!("cargo:rerun-if-changed={}", file.display());
            let content = fs::read(&file)?;
            hash.update(file.to_string_lossy().as_bytes());
            hash.update((content.len() as u64).to_le_bytes());
            hash.update(&content);
        }
        println!("cargo:rerun-if-changed={}", home.join("src").display());
    }
    let hex: String = hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    println!("cargo:rustc-env=DYAD_SIM_CODE={hex}");
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
