use super::Report;
pub(super) fn page(_report: &Report) -> String {
    "<!doctype html>".to_string()
}
