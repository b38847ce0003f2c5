//! Azure's clouds: where each one's tokens come from, and what its namespaces end with.

use std::fmt;

/// One of Azure's clouds. What an operator runs himself is an [`Authority`] of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Cloud {
    /// The public cloud.
    #[default]
    Public,
    /// The cloud of the US government.
    UsGovernment,
    /// The cloud in China.
    China,
    /// The cloud in Germany, closed in 2021; KEDA's `cloud` key knows it all the same.
    Germany,
}

impl Cloud {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Public, Self::UsGovernment, Self::China, Self::Germany];

    /// Its name in KEDA's `cloud` key.
    pub fn name(self) -> &'static str {
        match self {
            Self::Public => "AzurePublicCloud",
            Self::UsGovernment => "AzureUSGovernmentCloud",
            Self::China => "AzureChinaCloud",
            Self::Germany => "AzureGermanCloud",
        }
    }

    /// The cloud of a name in KEDA's `cloud` key, which knows two of them by a second name and takes any letter case (its
    /// `pkg/scalers/azure/cloud_config.go`).
    pub fn named(name: &str) -> Option<Self> {
        let other_name = |cloud: Self| match cloud {
            Self::Public => "AzureCloud",
            Self::UsGovernment => "AzureUSGovernment",
            Self::China | Self::Germany => cloud.name(),
        };
        let is_it = |cloud: &Self| [cloud.name(), other_name(*cloud)].iter().any(|own| own.eq_ignore_ascii_case(name));
        Self::ALL.into_iter().find(is_it)
    }

    /// What follows a namespace's name and a dot.
    pub fn endpoint_suffix(self) -> &'static str {
        match self {
            Self::Public => "servicebus.windows.net",
            Self::UsGovernment => "servicebus.usgovcloudapi.net",
            Self::China => "servicebus.chinacloudapi.cn",
            Self::Germany => "servicebus.cloudapi.de",
        }
    }

    /// Who gives its tokens, without a slash at the end.
    fn authority(self) -> &'static str {
        match self {
            Self::Public => "https://login.microsoftonline.com",
            Self::UsGovernment => "https://login.microsoftonline.us",
            Self::China => "https://login.chinacloudapi.cn",
            Self::Germany => "https://login.microsoftonline.de",
        }
    }
}

/// Who gives tokens: `https://HOST[:PORT]`. From the operator's configuration alone, never from a request: a client secret and
/// a service account token are sent there.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Authority(String);

/// Not an authority. The text is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an authority must be https://HOST or https://HOST:PORT, such as https://login.microsoftonline.com")]
pub struct AuthorityError;

impl Authority {
    /// An authority outside Azure's own clouds.
    pub fn parse(text: &str) -> Result<Self, AuthorityError> {
        let url = reqwest::Url::parse(text.trim()).map_err(|_| AuthorityError)?;
        let plain = url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none();
        if url.scheme() != "https" || url.host_str().is_none_or(str::is_empty) || !plain {
            return Err(AuthorityError);
        }
        Ok(Self(url.origin().ascii_serialization()))
    }

    /// Its address, without a slash at the end.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Cloud> for Authority {
    fn from(cloud: Cloud) -> Self {
        Self(cloud.authority().to_owned())
    }
}

impl Default for Authority {
    fn default() -> Self {
        Cloud::default().into()
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of KEDA's `EnvironmentFromName`.
    #[test]
    fn clouds_have_the_names_that_keda_knows() {
        for (name, cloud) in [
            ("AZURECLOUD", Cloud::Public),
            ("AzurePublicCloud", Cloud::Public),
            ("AzureUSGovernment", Cloud::UsGovernment),
            ("azureusgovernmentcloud", Cloud::UsGovernment),
            ("AzureChinaCloud", Cloud::China),
            ("AzureGermanCloud", Cloud::Germany),
        ] {
            assert_eq!(Cloud::named(name), Some(cloud), "{name}");
        }
        for unknown in ["", "Azure", "AzureChina", "AzureStackCloud", "Private", "AzureCloud "] {
            assert_eq!(Cloud::named(unknown), None, "{unknown:?}");
        }
        for cloud in Cloud::ALL {
            assert_eq!(Cloud::named(cloud.name()), Some(cloud));
        }
    }

    #[test]
    fn an_authority_is_a_host_over_https() {
        for (text, expected) in [
            ("https://login.example", "https://login.example"),
            (" https://Login.example:443/ ", "https://login.example"),
            ("https://localhost:8443", "https://localhost:8443"),
        ] {
            assert_eq!(Authority::parse(text).map(|authority| authority.to_string()), Ok(expected.to_owned()));
        }
        for text in [
            "",
            "login.example",
            "http://login.example",
            "https://",
            "https://user@login.example",
            "https://login.example/tenant",
            "https://login.example?x",
            "https://login.example#x",
        ] {
            assert_eq!(Authority::parse(text), Err(AuthorityError), "{text:?}");
        }
        for cloud in Cloud::ALL {
            let authority = Authority::from(cloud);
            assert_eq!(Authority::parse(authority.as_str()), Ok(authority));
        }
    }
}
