//! Inventories that Ansible reads: those that containerlab writes of each lab, as they are. Of what they say, the names, the groups and the
//! addresses count; how Ansible itself gets in, it keeps to itself.

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::exercise::inventory::{FILE_BYTES, Reader};
use crate::model::mistake::Mistake;
use crate::model::yaml::{self, Ordered, span};

/// Groups, each with hosts and groups in it. Everything else in it is of no concern here.
#[derive(Debug, Deserialize)]
struct GroupFile {
    hosts: Option<Ordered<Option<HostVars>>>,
    children: Option<Ordered<Option<Self>>>,
}

#[derive(Debug, Deserialize)]
struct HostVars {
    /// Where it is; nothing where the lab has given it no address.
    ansible_host: Option<Spanned<String>>,
}

/// The group of all hosts, which is worth no name.
const ALL: &str = "all";

/// Reads all groups, and the hosts in them.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<(), Mistake> {
    let groups: Ordered<Option<GroupFile>> = yaml::read(reader.source, "an inventory", FILE_BYTES)?;
    walk(reader, &groups, &mut Vec::new());
    Ok(())
}

fn walk(reader: &mut Reader<'_>, groups: &Ordered<Option<GroupFile>>, within: &mut Vec<String>) {
    for (name, group) in &groups.0 {
        let Some(group) = group else { continue };
        within.push(name.value.clone());
        for (name, vars) in group.hosts.iter().flat_map(|hosts| &hosts.0) {
            let address =
                vars.as_ref().and_then(|vars| vars.ansible_host.as_ref()).filter(|text| !text.value.is_empty());
            let known = reader.hosts.iter().position(|host| host.name == name.value);
            // A host that stands in several groups may be given its address in one of them.
            let index = match (known, address) {
                (Some(index), None) => index,
                (Some(index), Some(address)) => {
                    if let Some(agent) = reader.agent(&address.value, span(&address.referenced)) {
                        reader.hosts[index].agent = agent;
                    }
                    index
                }
                (None, address) => {
                    let (text, at) =
                        address.map_or((&name.value, &name.referenced), |text| (&text.value, &text.referenced));
                    let Some(agent) = reader.agent(text, span(at)) else { continue };
                    if !reader.host(name, agent) {
                        continue;
                    }
                    reader.hosts.len() - 1
                }
            };
            for group in within.iter().filter(|group| *group != ALL) {
                reader.member(group, index);
            }
        }
        if let Some(children) = &group.children {
            walk(reader, children, within);
        }
        within.pop();
    }
}
