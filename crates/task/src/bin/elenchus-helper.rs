//! The process in which programs are run, as a command of its own for those who use the library without `elenchus`.

fn main() {
    elenchus_task::program::serve_when_asked();
    eprintln!("elenchus-helper runs programs for a library that starts it; name it in ELENCHUS_HELPER");
    std::process::exit(2);
}
