//! The values that labels take.

macro_rules! labels {
    ($($(#[$docs:meta])* $name:ident { $($(#[$about:meta])* $variant:ident => $text:literal,)* })*) => {$(
        $(#[$docs])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$about])* $variant,)*
        }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The label's text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    )*};
}

labels! {
    /// What became of a request.
    RequestOutcome {
        /// It was served.
        Ok => "ok",
        /// It broke a rule.
        BadRequest => "bad_request",
        /// Nobody knows its caller.
        Unauthorized => "unauthorized",
        /// Its grant has no scope for it.
        Forbidden => "forbidden",
        /// There is no such thing or no such route.
        NotFound => "not_found",
        /// A limit refused it.
        RateLimited => "rate_limited",
        /// Its deadline passed.
        DeadlineExceeded => "deadline_exceeded",
        /// Its client went away before it was answered.
        Abandoned => "abandoned",
        /// Something that it needs cannot be had.
        Unavailable => "unavailable",
        /// Somebody must find out what happened.
        Internal => "internal",
    }

    /// What became of an exchange.
    ExchangeOutcome {
        /// The token left.
        Released => "released",
        /// Revoked, or out of scope.
        Denied => "denied",
        /// There is no such credential.
        NotFound => "not_found",
        /// Something that it needs cannot be had, or the credential does not open.
        Failed => "failed",
    }

    /// What an exchange had in memory.
    CacheUse {
        /// The data key and the credential's row, which Postgres only had to confirm.
        RowAndKey => "row_and_key",
        /// The data key.
        Hit => "hit",
        /// Nothing: the KMS was asked.
        Miss => "miss",
        /// It did not come to that.
        None => "none",
    }

    /// What a KMS is asked.
    KmsOperation {
        /// A new data key.
        Generate => "generate",
        /// A data key of a stored credential.
        Unwrap => "unwrap",
    }

    /// What is limited.
    Limit {
        /// Exchanges, per grant token.
        ExchangePerGrant => "exchange_per_grant",
        /// Verbs of an API key, per developer.
        RequestsPerDeveloper => "requests_per_developer",
        /// Failed authentications, per address.
        FailedAuthPerAddress => "failed_auth_per_address",
        /// Requests under way, per developer.
        InFlightPerDeveloper => "in_flight_per_developer",
        /// Requests under way whose caller is not known yet, per address.
        InFlightPerAddress => "in_flight_per_address",
        /// Failed logins of operators, per address.
        FailedOperatorLoginPerAddress => "failed_operator_login_per_address",
    }
}

impl KmsOperation {
    /// The name of a span.
    #[must_use]
    pub const fn span_name(self) -> &'static str {
        match self {
            Self::Generate => "kms generate",
            Self::Unwrap => "kms unwrap",
        }
    }
}
