"""What each of Slurm's reasons means for a person whose job waits. A table; `reasons` reads it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """Why a session waits, in words for its owner.

    Attributes
    ----------
    text
        What it means, as whole sentences.
    advice
        What the person can do; never empty.
    hopeless
        Whether it stays like this until somebody does something: waiting alone does not help.
    """

    text: str
    advice: str
    hopeless: bool = False


ADMINS = "Ask the administrators of this site."
_OTHER = "Cancel it and choose another one on the start page."
_PATIENCE = "There is nothing to do but to wait. "
_SMALLER = "With fewer GPUs or nodes, or a shorter time limit, a session usually starts sooner."
_BROKEN = "Tell the administrators, and cancel the session: it does not start like this."
OWN = "It starts when one of your other jobs or sessions ends; stop one that you do not need."

# Slurm's word -> its meaning. The words are those of 22.05 to 26.05 (job_state_reason_string of its
# library, and man squeue, JOB REASON CODES); limits go by patterns in `reasons`.
WORDS = {
    "None": Reason(
        "Slurm has not looked at it yet.", "Wait a moment; on a busy cluster this takes some minutes."
    ),
    "Resources": Reason(
        "It is the next in line, and waits until enough nodes, cores, memory or GPUs are free.",
        _PATIENCE + _SMALLER,
    ),
    "Priority": Reason("Other jobs with a higher priority are before it.", _PATIENCE + _SMALLER),
    "Prolog": Reason("Its node is being prepared.", "Wait a moment; it starts as soon as the node is ready."),
    "Cleaning": Reason(
        "What is left of its first attempt is being cleaned up.", "Wait a moment; it starts again by itself."
    ),
    "BeginTime": Reason(
        "It may not start before a certain time. Slurm also sets one after an attempt that failed.",
        "Wait until then; the expected start says when that is.",
    ),
    "Dependency": Reason("It waits for another job to end.", "It starts by itself when that job has ended."),
    "DependencyNeverSatisfied": Reason(
        "It waits for another job, which has ended in a way that never lets this one start.",
        "Cancel it and start it anew.",
        hopeless=True,
    ),
    "Reservation": Reason(
        "It waits for its reservation (nodes set aside for a group or a course) to begin.",
        "It starts when the reservation begins. To start now, choose a session without this reservation.",
    ),
    "ReservationDeleted": Reason("The reservation that it asks for is gone.", _OTHER, hopeless=True),
    "ReservationInvalid": Reason("The reservation that it asks for cannot be used.", _OTHER, hopeless=True),
    "Licenses": Reason(
        "It waits for a licence that others are using.", "It starts when a licence is given back."
    ),
    "JobHeldAdmin": Reason(
        "An administrator has put it on hold.",
        "Ask the administrators why. It does not start before they release it.",
        hopeless=True,
    ),
    "JobHeldUser": Reason(
        "It is on hold: you, or the head of its account, stopped it from starting.",
        "Release it with the command scontrol release and its job number, or cancel it.",
        hopeless=True,
    ),
    "JobHoldMaxRequeue": Reason(
        "Slurm has tried to start it several times, and has given up.", _BROKEN, hopeless=True
    ),
    "JobLaunchFailure": Reason("Slurm could not start it on its node.", _BROKEN, hopeless=True),
    "SystemFailure": Reason(
        "Something of the cluster failed when it was to start: Slurm, a file system or the network.",
        "Wait some minutes: Slurm may try again. If it stays like this, tell the administrators.",
    ),
    "NodeDown": Reason("A node that it needs is down.", f"It starts when the node is back. {ADMINS}"),
    "FrontEndDown": Reason("The machine that starts jobs is down.", f"It starts when that is back. {ADMINS}"),
    "PartitionDown": Reason(
        "The administrators let nothing start in its part of the cluster (its partition) at the moment.",
        "It starts when they open it again. Another kind of session may start at once.",
    ),
    "PartitionInactive": Reason(
        "The administrators have closed its part of the cluster (its partition).",
        "It starts when they open it again. Another kind of session may start at once.",
    ),
    "PartitionNodeLimit": Reason(
        "It needs more nodes, or fewer, than its part of the cluster (its partition) allows; or too many of "
        "them are down.",
        "Cancel it and ask for another number of nodes. If it was a usual number, ask the administrators.",
    ),
    "PartitionTimeLimit": Reason(
        "Its time limit is longer than its part of the cluster (its partition) allows.",
        "Cancel it and ask for less time.",
        hopeless=True,
    ),
    "PartitionConfig": Reason(
        "It asks for something that its part of the cluster (its partition) does not allow.",
        f"Cancel it and ask for less. {ADMINS}",
        hopeless=True,
    ),
    "BadConstraints": Reason(
        "No node of the cluster has what it asks for.",
        "Cancel it and ask for less, or for another GPU type or constraint.",
        hopeless=True,
    ),
    "Constraints": Reason(
        "No node has what it asks for at this time.",
        "Wait, or cancel it and ask for less, or for another GPU type or constraint.",
    ),
    "MaxMemPerLimit": Reason(
        "It asks for more memory on a node, or for each core, than is allowed.",
        "Cancel it and ask for less memory, or for more cores.",
        hopeless=True,
    ),
    "DeadLine": Reason("It cannot end in time for its deadline.", "Cancel it.", hopeless=True),
    "InvalidAccount": Reason(
        "Its account is not valid (any more).", f"{_OTHER} If there is none, {ADMINS.lower()}", hopeless=True
    ),
    "InvalidQOS": Reason("Its QOS (Slurm's class of jobs) is not valid (any more).", _OTHER, hopeless=True),
    "AccountNotAllowed": Reason(
        "Its account may not use this part of the cluster (its partition).", _OTHER, hopeless=True
    ),
    "QOSNotAllowed": Reason(
        "Its QOS (Slurm's class of jobs) may not be used with this account or partition.",
        _OTHER,
        hopeless=True,
    ),
    "QOSUsageThreshold": Reason(
        "Too much has been used lately for its QOS (Slurm's class of jobs).",
        "Wait until less has been used, or choose another QOS.",
    ),
    "AccountingPolicy": Reason(
        "A limit on what you, your account or everybody may use at once holds it back.", OWN
    ),
    "AssociationJobLimit": Reason("You, or your account, have as many jobs as are allowed.", OWN),
    "AssociationResourceLimit": Reason("You, or your account, use as much as is allowed.", OWN),
    "AssociationTimeLimit": Reason("The time that your account was given is used up.", ADMINS, hopeless=True),
    "QOSJobLimit": Reason("Its QOS (Slurm's class of jobs) has as many jobs as are allowed.", OWN),
    "QOSResourceLimit": Reason("Its QOS (Slurm's class of jobs) uses as much as is allowed.", OWN),
    "QOSTimeLimit": Reason(
        "The time that its QOS (Slurm's class of jobs) was given is used up.", ADMINS, hopeless=True
    ),
    "JobArrayTaskLimit": Reason(
        "As many tasks of its job array are running as may at once.", "It starts when one of them ends."
    ),
    "BurstBufferResources": Reason(
        "It waits for fast temporary storage (burst buffer).", "It starts when enough of it is free."
    ),
    "BurstBufferStageIn": Reason(
        "Its data is being copied to fast temporary storage (burst buffer).", "It starts when that is done."
    ),
    "BurstBufferOperation": Reason(
        "Its fast temporary storage (burst buffer) could not be set up.", _BROKEN, hopeless=True
    ),
    "PowerNotAvail": Reason("The cluster has no power left for more nodes.", _PATIENCE + _SMALLER),
    "PowerReserved": Reason("The power for more nodes is set aside for others.", _PATIENCE + _SMALLER),
    "MaxPoweredUpNodes": Reason("No more nodes may be switched on at once.", _PATIENCE + _SMALLER),
    "MpiPortsBusy": Reason(
        "The network ports that it needs on its nodes are in use.", "It starts when they are free."
    ),
    "NvidiaImexChannels": Reason(
        "It waits for a channel between the GPUs of several nodes.", "It starts when one is free."
    ),
    "BlockFreeAction": Reason("Its nodes are being freed.", "Wait a moment."),
    "BlockMaxError": Reason("Its nodes failed too often.", _BROKEN, hopeless=True),
    "FedJobLock": Reason("The clusters that work together agree on which of them runs it.", "Wait a moment."),
    "SchedDefer": Reason("Slurm puts off what asks to start at once.", "Cancel it and start it anew."),
    "OutOfMemory": Reason(
        "An earlier attempt used more memory than it asked for.",
        "Cancel it and ask for more memory.",
        hopeless=True,
    ),
    "TimeLimit": Reason(
        "An earlier attempt came to the end of its time limit.", "Cancel it and start it anew.", hopeless=True
    ),
    "InactiveLimit": Reason(
        "An earlier attempt was ended because nothing happened in it.",
        "Cancel it and start it anew.",
        hopeless=True,
    ),
    "NonZeroExitCode": Reason("An earlier attempt failed.", "Cancel it and start it anew.", hopeless=True),
    "RaisedSignal": Reason(
        "An earlier attempt was ended by a signal.", "Cancel it and start it anew.", hopeless=True
    ),
    "InvalidReason": Reason("Slurm gives no reason that it knows itself.", f"Wait a while. {ADMINS}"),
}
WORDS["WaitingForScheduling"] = WORDS["None"]  # what man squeue calls it

# Sentences that Slurm writes in the place of a word, as they begin; squeue may show "_" for " ".
SENTENCES = (
    (
        "nodes required for job are down, drained or reserved",
        Reason(
            "The nodes that it could run on are down, set aside, or kept for more urgent jobs.",
            "It starts when they are free again; another kind of session may start at once. "
            "If it stays like this, ask the administrators.",
        ),
    ),
    (
        "reqnodenotavail, reserved for maintenance",
        Reason(
            "A maintenance of the cluster is planned, and would begin before the session ends.",
            "It starts after the maintenance. With a time limit that ends before, it may start at once.",
        ),
    ),
    (
        "reqnodenotavail, may be reserved for other job",
        Reason(
            "The nodes that it could run on are set aside for other jobs, a course or a maintenance.",
            "It starts when they are free. With a shorter time limit it may fit in before.",
        ),
    ),
    ("launch failed requeued held", WORDS["JobLaunchFailure"]),
    ("user env retrieval failed requeued held", WORDS["JobLaunchFailure"]),
    ("job requeued in held state", WORDS["JobHeldAdmin"]),
    ("job requeued in special exit state", WORDS["JobHeldAdmin"]),
)
