// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <utility>

#include "cli/targetcli/groups.hpp"

namespace perilune::cli::targetcli {
namespace {

using Description = std::pair<std::string_view, std::string_view>;

constexpr std::array descriptions{
    Description{"AuthMethod", "The ways of authentication that are offered."},
    Description{"DataDigest", "The digests of data that are offered."},
    Description{"DataPDUInOrder", "Yes: the PDUs of a sequence come in the order of their offsets."},
    Description{"DataSequenceInOrder", "Yes: sequences come in the order of their offsets."},
    Description{"DefaultTime2Retain", "For how many seconds tasks outlive a lost connection."},
    Description{"DefaultTime2Wait", "How many seconds an initiator waits before it comes back."},
    Description{"ErrorRecoveryLevel",
                "0: sessions are made anew; 1: PDUs are sent again; 2: connections are recovered."},
    Description{"FirstBurstLength", "The most bytes that may come with a write unasked."},
    Description{"HeaderDigest", "The digests of headers that are offered."},
    Description{"IFMarkInt", "Obsolete (RFC 7143 13.25); kept."},
    Description{"IFMarker", "Obsolete (RFC 7143 13.25); kept."},
    Description{"ImmediateData", "Yes: data may come in the PDU of the command."},
    Description{"InitialR2T", "No: data may come before the target has asked for it."},
    Description{"MaxBurstLength", "The most bytes of one sequence of data."},
    Description{"MaxConnections", "The most connections of one session."},
    Description{"MaxOutstandingR2T", "How much of one write may be asked for at a time, in R2Ts."},
    Description{"MaxRecvDataSegmentLength", "The most data in a PDU that the target takes."},
    Description{"MaxXmitDataSegmentLength", "The most data in a PDU that the target sends."},
    Description{"OFMarkInt", "Obsolete (RFC 7143 13.25); kept."},
    Description{"OFMarker", "Obsolete (RFC 7143 13.25); kept."},
    Description{"TargetAlias", "A name of the target for people."},
    Description{"alua_access_state",
                "0: active/optimized, 1: active/non-optimized, 2: standby, 3: unavailable, 14: offline, 15: "
                "transitioning."},
    Description{"alua_access_status",
                "What changed the state last: 0: nothing, 1: a SET TARGET PORT GROUPS, 2: the target."},
    Description{"alua_access_type",
                "Who may change the state: 0: nobody, 1: the target, 2: initiators, 3: both."},
    Description{"alua_tg_pt_gp_name", "The ALUA group of the storage object that the LUN is in."},
    Description{"authentication",
                "1: initiators must prove who they are; of an ACL also -1: as the portal group says."},
    Description{"block_size", "Bytes of a logical block."},
    Description{"cache_dynamic_acls", "1: what demo mode let in stays known."},
    Description{"dataout_timeout", "Seconds to wait for data of a write."},
    Description{"dataout_timeout_retries", "How often data of a write is asked for again."},
    Description{"default_cmdsn_depth", "How many commands an initiator may have outstanding."},
    Description{"default_erl", "The level of error recovery."},
    Description{"demo_mode_discovery", "1: in demo mode everybody finds the target."},
    Description{"demo_mode_write_protect", "1: in demo mode nobody may write."},
    Description{"emulate_3pc", "1: EXTENDED COPY and its kin are there."},
    Description{"emulate_caw", "1: COMPARE AND WRITE is there."},
    Description{"emulate_dpo", "1: DPO in reads and writes is taken."},
    Description{"emulate_fua_read", "1: FUA in reads is taken."},
    Description{"emulate_fua_write", "1: FUA in writes is taken."},
    Description{"emulate_model_alias", "1: INQUIRY's product is the name of the storage object."},
    Description{"emulate_pr", "1: reservations are there."},
    Description{"emulate_rest_reord", "0: commands are reordered within limits (QUEUE ALGORITHM MODIFIER)."},
    Description{"emulate_tas", "1: an initiator hears of commands that another one aborted."},
    Description{"emulate_tpu", "1: UNMAP is there."},
    Description{"emulate_tpws", "1: WRITE SAME with UNMAP is there."},
    Description{"emulate_ua_intlck_ctrl", "When unit attentions are cleared (UA_INTLCK_CTRL)."},
    Description{"emulate_write_cache", "1: there is a write cache that initiators may flush."},
    Description{"enable", "True: discovery wants authentication."},
    Description{"enforce_pr_isids", "1: a registration belongs to one session of an initiator."},
    Description{"fabric_prot_type", "The protection that the portal group adds."},
    Description{"force_pr_aptpl", "1: reservations always outlive a loss of power."},
    Description{"generate_node_acls", "1: demo mode: initiators without an ACL may log in."},
    Description{"hw_block_size", "As block_size."},
    Description{"hw_max_sectors", "Kept for scripts: no limit of ours."},
    Description{"hw_pi_prot_type", "Kept for scripts."},
    Description{"hw_queue_depth", "Kept for scripts: no limit of ours."},
    Description{"is_nonrot", "1: the medium does not turn."},
    Description{"login_timeout", "Seconds in which a login must be done."},
    Description{"max_unmap_block_desc_count", "The most descriptors of an UNMAP."},
    Description{"max_unmap_lba_count", "The most blocks of an UNMAP."},
    Description{"max_write_same_len", "The most blocks of a WRITE SAME."},
    Description{"members", "The LUNs that are in the group."},
    Description{"mutual_password", "The secret by which the target proves itself."},
    Description{"mutual_userid", "The name by which the target proves itself."},
    Description{"netif_timeout", "Kept for scripts."},
    Description{"nopin_response_timeout", "Seconds in which a ping must be answered."},
    Description{"nopin_timeout", "Seconds of silence after which an initiator is pinged; 0: never."},
    Description{"nonop_delay_msecs", "Milliseconds by which a group that is not optimized answers later."},
    Description{"optimal_sectors", "How many blocks are best asked for at a time."},
    Description{"password", "The secret by which an initiator proves itself."},
    Description{"pi_prot_format", "Writing 1 formats the protection information."},
    Description{"pi_prot_type", "The type of the protection information."},
    Description{"preferred", "1: the group is preferred to others (PREF)."},
    Description{"prod_mode_write_protect", "1: initiators with an ACL may not write either."},
    Description{"queue_depth", "How many commands may be under way."},
    Description{"t10_pi", "1: the portal group offers protection information."},
    Description{"tg_pt_gp_id", "The number of the group."},
    Description{"tpg_enabled_sendtargets",
                "1: discovery does not tell of the portal group while it is disabled."},
    Description{"trans_delay_msecs", "Milliseconds that a change of state takes."},
    Description{"implicit_trans_secs", "Seconds that an initiator should wait for a change of state."},
    Description{"unmap_granularity", "How many blocks are given back at a time."},
    Description{"unmap_granularity_alignment", "The first block of such a part."},
    Description{"unmap_zeroes_data", "1: blocks that were given back read as zeroes."},
    Description{"userid", "The name by which an initiator proves itself."},
};

}  // namespace

std::string_view description_of(std::string_view parameter) noexcept {
  const auto at = std::find_if(descriptions.begin(), descriptions.end(),
                               [&](const Description& row) { return row.first == parameter; });
  return at == descriptions.end() ? std::string_view{} : at->second;
}

}  // namespace perilune::cli::targetcli
