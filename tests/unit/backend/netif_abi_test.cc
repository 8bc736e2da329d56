// base/abi/netif.h says what <xen/io/netif.h> says: the same bytes at the same places.
#include <gtest/gtest.h>
#include <xen/io/netif.h>
#include <xen/xen.h>

#include "backend/tx_chain.h"
#include "base/abi/netif.h"

namespace synfluid::abi {
namespace {

#define SAME_FIELD(Ours, ours, Theirs, theirs)                                                  \
  static_assert(offsetof(Ours, ours) == offsetof(Theirs, theirs) &&                             \
                    sizeof(std::declval<Ours>().ours) == sizeof(std::declval<Theirs>().theirs), \
                #Ours "." #ours)

SAME_FIELD(NetTxRequest, gref, netif_tx_request_t, gref);
SAME_FIELD(NetTxRequest, offset, netif_tx_request_t, offset);
SAME_FIELD(NetTxRequest, flags, netif_tx_request_t, flags);
SAME_FIELD(NetTxRequest, id, netif_tx_request_t, id);
SAME_FIELD(NetTxRequest, size, netif_tx_request_t, size);
SAME_FIELD(NetTxResponse, id, netif_tx_response_t, id);
SAME_FIELD(NetTxResponse, status, netif_tx_response_t, status);
SAME_FIELD(NetRxRequest, id, netif_rx_request_t, id);
SAME_FIELD(NetRxRequest, gref, netif_rx_request_t, gref);
SAME_FIELD(NetRxResponse, id, netif_rx_response_t, id);
SAME_FIELD(NetRxResponse, offset, netif_rx_response_t, offset);
SAME_FIELD(NetRxResponse, flags, netif_rx_response_t, flags);
SAME_FIELD(NetRxResponse, status, netif_rx_response_t, status);

SAME_FIELD(RingIndices, req_prod, netif_tx_sring_t, req_prod);
SAME_FIELD(RingIndices, req_event, netif_tx_sring_t, req_event);
SAME_FIELD(RingIndices, rsp_prod, netif_tx_sring_t, rsp_prod);
SAME_FIELD(RingIndices, rsp_event, netif_tx_sring_t, rsp_event);

SAME_FIELD(NetCtrlRequest, id, xen_netif_ctrl_request, id);
SAME_FIELD(NetCtrlRequest, type, xen_netif_ctrl_request, type);
SAME_FIELD(NetCtrlRequest, data, xen_netif_ctrl_request, data);
SAME_FIELD(NetCtrlResponse, id, xen_netif_ctrl_response, id);
SAME_FIELD(NetCtrlResponse, type, xen_netif_ctrl_response, type);
SAME_FIELD(NetCtrlResponse, status, xen_netif_ctrl_response, status);
SAME_FIELD(NetCtrlResponse, data, xen_netif_ctrl_response, data);
SAME_FIELD(NetGref, gref, xen_netif_gref, ref);
SAME_FIELD(NetGref, flags, xen_netif_gref, flags);
SAME_FIELD(NetGref, status, xen_netif_gref, status);

static_assert(offsetof(NetTxRing, entries) == offsetof(netif_tx_sring_t, ring));
static_assert(offsetof(NetRxRing, entries) == offsetof(netif_rx_sring_t, ring));
static_assert(sizeof(NetTxEntry) == sizeof(netif_tx_sring_entry));
static_assert(sizeof(NetRxEntry) == sizeof(netif_rx_sring_entry));
static_assert(offsetof(NetCtrlRing, entries) == offsetof(xen_netif_ctrl_sring_t, ring));
static_assert(sizeof(NetCtrlEntry) == sizeof(xen_netif_ctrl_sring_entry));

TEST(NetifAbi, RingsHaveAsManySlotsAsXenGivesAPage) {
  netif_tx_sring_t* tx = nullptr;
  netif_rx_sring_t* rx = nullptr;
  EXPECT_EQ(kRingSlots, __CONST_RING_SIZE(netif_tx, kPageBytes));
  EXPECT_EQ(kRingSlots, __CONST_RING_SIZE(netif_rx, kPageBytes));
  xen_netif_ctrl_sring_t* control = nullptr;
  EXPECT_EQ(NetCtrlRing::kSlots, __CONST_RING_SIZE(xen_netif_ctrl, kPageBytes));
  static_cast<void>(control);
  static_cast<void>(tx);
  static_cast<void>(rx);
}

TEST(NetifAbi, FlagsAndStatusesAreXens) {
  EXPECT_EQ(kTxCsumBlank, NETTXF_csum_blank);
  EXPECT_EQ(kTxDataValidated, NETTXF_data_validated);
  EXPECT_EQ(kTxMoreData, NETTXF_more_data);
  EXPECT_EQ(kTxExtraInfo, NETTXF_extra_info);
  EXPECT_EQ(kRxDataValidated, NETRXF_data_validated);
  EXPECT_EQ(kRxCsumBlank, NETRXF_csum_blank);
  EXPECT_EQ(kRxMoreData, NETRXF_more_data);
  EXPECT_EQ(kRxExtraInfo, NETRXF_extra_info);
  EXPECT_EQ(kCtrlGetGrefMappingSize, XEN_NETIF_CTRL_TYPE_GET_GREF_MAPPING_SIZE);
  EXPECT_EQ(kCtrlAddGrefMapping, XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING);
  EXPECT_EQ(kCtrlDelGrefMapping, XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING);
  EXPECT_EQ(kCtrlStatusSuccess, static_cast<uint32_t>(XEN_NETIF_CTRL_STATUS_SUCCESS));
  EXPECT_EQ(kCtrlStatusNotSupported, static_cast<uint32_t>(XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED));
  EXPECT_EQ(kCtrlStatusInvalidParameter, static_cast<uint32_t>(XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER));
  EXPECT_EQ(kGrefReadOnly, XEN_NETIF_CTRLF_GREF_readonly);
  EXPECT_EQ(kRspDropped, NETIF_RSP_DROPPED);
  EXPECT_EQ(kRspError, NETIF_RSP_ERROR);
  EXPECT_EQ(kRspOkay, NETIF_RSP_OKAY);
  EXPECT_EQ(kRspNull, NETIF_RSP_NULL);
}

TEST(NetifAbi, ExtraInfoTypesAreXens) {
  using backend::ExtraType;
  EXPECT_EQ(static_cast<int>(ExtraType::kGso), XEN_NETIF_EXTRA_TYPE_GSO);
  EXPECT_EQ(static_cast<int>(ExtraType::kMulticastAdd), XEN_NETIF_EXTRA_TYPE_MCAST_ADD);
  EXPECT_EQ(static_cast<int>(ExtraType::kMulticastDelete), XEN_NETIF_EXTRA_TYPE_MCAST_DEL);
  EXPECT_EQ(static_cast<int>(ExtraType::kHash), XEN_NETIF_EXTRA_TYPE_HASH);
  EXPECT_EQ(backend::kExtraFlagMore, XEN_NETIF_EXTRA_FLAG_MORE);
  EXPECT_EQ(backend::kMaxFragments, uint32_t{XEN_NETIF_NR_SLOTS_MIN});
  EXPECT_EQ(offsetof(netif_extra_info_t, type), 0u);
  EXPECT_EQ(offsetof(netif_extra_info_t, flags), 1u);
}

}  // namespace
}  // namespace synfluid::abi
