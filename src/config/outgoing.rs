//! What decides how requests leave, by the variables that other programs honour too.

use std::path::PathBuf;

use super::values::Values;
use crate::proxies::{Proxies, Proxy};

/// The spellings of a variable, of which the first that is set counts.
type Spellings = [&'static str; 2];

const HTTP_PROXY: Spellings = ["HTTP_PROXY", "http_proxy"];
const HTTPS_PROXY: Spellings = ["HTTPS_PROXY", "https_proxy"];
const ALL_PROXY: Spellings = ["ALL_PROXY", "all_proxy"];
const NO_PROXY: Spellings = ["NO_PROXY", "no_proxy"];

// === impl Values ===

impl Values<'_> {
    /// The proxies; the value of a variable that names one may be a secret, and is not in a fault.
    pub(super) fn proxies(&mut self) -> Proxies {
        let http = self.proxy(&[HTTP_PROXY, ALL_PROXY].concat());
        let https = self.proxy(&[HTTPS_PROXY, ALL_PROXY].concat());
        let directly = self.first_of(&NO_PROXY).map(|(_, hosts)| hosts);
        Proxies::new(http, https, &directly.unwrap_or_default())
    }

    /// What AWS is verified with instead of the machine's authorities.
    pub(super) fn aws_ca_bundle(&mut self) -> Option<PathBuf> {
        self.variable("AWS_CA_BUNDLE").map(PathBuf::from)
    }

    fn proxy(&mut self, names: &[&'static str]) -> Option<Proxy> {
        let (name, url) = self.first_of(names)?;
        url.parse()
            .map_or_else(|fault| self.fault(name, fault), Some)
    }

    fn first_of(&mut self, names: &[&'static str]) -> Option<(&'static str, String)> {
        let set = |name: &&'static str| Some((*name, self.variable(name)?));
        names.iter().find_map(set)
    }
}
