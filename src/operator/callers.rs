//! Who operates.

use std::net::{IpAddr, Ipv4Addr};

use uuid::Uuid;

use crate::{
    audit::event::Caller,
    auth::admin_token::AdminToken,
    model::{
        request::{RequestContext, Transport},
        text::OperatorName,
    },
};

use super::OperatorError;

/// An operator who may do everything in this room, and the request that it makes.
#[derive(Debug, Clone)]
pub struct KnownOperator {
    pub(super) request: RequestContext,
    name: OperatorName,
}

impl KnownOperator {
    /// Knows an operator by a client certificate that the listener has verified, or else by the admin
    /// token; nobody, when there is no token.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Unauthenticated`].
    pub async fn by(
        request: RequestContext,
        certificate: Option<&OperatorName>,
        presented: Option<&str>,
        token: Option<&AdminToken>,
    ) -> Result<Self, OperatorError> {
        if let Some(name) = certificate {
            let name = name.clone();
            return Ok(Self { request, name });
        }
        let (Some(presented), Some(token)) = (presented, token) else {
            return Err(OperatorError::Unauthenticated);
        };
        if !token.admits(presented).await {
            return Err(OperatorError::Unauthenticated);
        }
        Ok(Self {
            request,
            name: OperatorName::parse("token").expect("a short word"),
        })
    }

    /// Whoever runs a command on a machine that has the vault's database: the operating system's user
    /// of this number.
    #[must_use]
    pub fn at_the_command_line(user: u32) -> Self {
        Self {
            request: RequestContext {
                id: Uuid::new_v4(),
                trace: None,
                transport: Transport::CommandLine,
                peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            },
            name: OperatorName::parse(&format!("uid {user}")).expect("a word and a number"),
        }
    }

    /// As the audit record names it.
    #[must_use]
    pub fn name(&self) -> &OperatorName {
        &self.name
    }

    pub(super) fn caller(&self) -> Caller {
        Caller::Operator(self.name.clone())
    }
}
