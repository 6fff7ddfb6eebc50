"""What a person may have meant: the keys of this project for those of others, and for misspelt ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from mineonline.settings.meanings import all_settings, with_article

_ELSEWHERE = {
    "optimizer.learning_rate": "lr alpha step_size actor_lr critic_lr lr_actor lr_critic learning-rate",
    "optimizer.learning_rates": "param_groups lr_groups",
    "optimizer.anneal": "anneal_lr anneal_lr_linearly lr_schedule lr_scheduler use_linear_lr_decay",
    "optimizer.warmup": "warmup_steps lr_warmup",
    "optimizer.eps": "adam_eps adam_epsilon optimizer_eps",
    "optimizer.weight_decay": "wd l2",
    "optimizer.max_grad_norm": "gradient_clip_val grad_clip clip_grad clip_grad_norm max_gradient_norm grad_norm",
    "optimizer.epochs": "n_epochs update_epochs ppo_epochs epochs_per_iteration ppo_epoch num_epochs num_sgd_iter "
    "noptepochs",
    "optimizer.accumulate": "accumulate_grad_batches gradient_accumulation gradient_accumulation_steps",
    "optimizer.context_length": "seq_len sequence_length bptt_length max_seq_len",
    "optimizer.target_kl": "desired_kl",
    "objective.discount": "gamma discount_factor",
    "objective.horizon_s": "horizon",
    "objective.trace": "gae_lambda lam lambda lmbda lambda_ td_lambda gae",
    "objective.clip": "clip_range clip_coef clip_param ppo_clip clip_eps clip_epsilon epsilon eps_clip cliprange "
    "clip_ratio",
    "objective.value_clip": "clip_range_vf clip_vloss vf_clip_param value_clip_range",
    "objective.entropy_coef": "ent_coef entropy_bonus_coef entropy_coeff entropy_bonus entropy ent_coeff entropy_cost",
    "objective.value_coef": "vf_coef ppo_vf_coef vf_loss_coeff value_loss_coef vf_coeff critic_coef baseline_cost",
    "objective.policy_coef": "ppo_policy_coef pg_coef",
    "objective.value_warmup": "vf_warmup",
    "objective.normalize_advantage": "norm_adv normalize_advantages normalize_advantage_full_batch adv_norm",
    "objective.normalize_value": "use_normalized_vf popart norm_reward normalize_reward normalize_returns",
    "objective.reward_scale": "reward_scaling",
    "objective.reward_clip": "clip_reward clip_rewards",
    "objective.log_ratio_max": "log_ratio_range",
    "objective.kind": "algo algorithm algorithm_name loss trainer_name",
    "reference.kl_coef": "kl_divergence_coef_rho kl_beta beta kl_penalty",
    "reference.kl_decay": "coef_rho_decay",
    "reference.refresh_every": "enable_ref_update",
    "reference.checkpoint": "ref_model reference_model",
    "policy.zero_initial_value": "zero_initial_vf",
    "policy.memory": "lstm gru rnn recurrent use_lstm use_rnn",
    "policy.hidden_size": "hidden hidden_dim hidden_units lstm_hidden_size hidden_layer_size",
    "policy.hidden_sizes": "net_arch fcnet_hiddens layers hidden_layers",
    "policy.weights": "pretrained pretrained_weights model_weights",
    "policy": "model network agent net architecture policy_kwargs actor_critic",
    "collector.envs_per_worker": "num_envs n_envs num_envs_per_worker envs nenvs env_num num_environments "
    "num_envs_per_env_runner",
    "collector.workers": "num_workers n_workers n_jobs workers num_env_workers",
    "collector.count": "num_rollout_workers num_actors num_collectors n_actors actors collectors num_env_runners",
    "collector.device": "device num_gpus_per_worker rollout_device",
    "collector.torch_threads": "num_cpus_per_worker",
    "collector.mode": "sync synchronous use_async",
    "fragment.length": "n_steps num_steps fragment_length rollout_length rollout_fragment_length unroll_length nsteps "
    "rollout_steps steps_per_rollout",
    "buffer.fragments_per_iteration": "train_batch_size batch_size_per_gpu rollout_batch_size timesteps_per_batch",
    "buffer.capacity": "buffer_size replay_buffer_size max_chunks replay_size",
    "optimizer.minibatches": "num_minibatches n_minibatches nminibatches batches_per_iteration num_mini_batch "
    "batch_size minibatch_size mini_batch_size sgd_minibatch_size",
    "iterations": "max_steps total_timesteps num_iterations max_iterations n_iterations timesteps total_steps "
    "max_epochs epochs num_updates total_iterations iters num_train_steps steps train_steps max_timesteps "
    "num_env_steps",
    "seed": "random_seed manual_seed rng_seed seed_everything",
    "run_dir": "output_dir log_dir logdir out_dir save_path save_dir default_root_dir work_dir output workdir run_name "
    "exp_name experiment_name",
    "checkpoint": "resume resume_from resume_from_checkpoint ckpt_path load ckpt load_model restore checkpoint_path",
    "init_from": "load_weights pretrained_checkpoint finetune_from",
    "env": "environment env_name gym world",
    "env.id": "env_id gym_id",
    "env.image_size": "obs_size resolution image_width image_height img_size frame_size width height image_shape",
    "env.restart_interval_s": "restart_interval",
    "task": "goal mission scenario",
    "task.action_repeat": "frame_skip frameskip action_repetition",
    "task.time_limit_ticks": "max_episode_steps time_limit episode_length max_episode_length",
    "task.rewards": "reward reward_config",
    "checkpointing.every": "save_interval save_freq checkpoint_interval checkpoint_every save_every save_model "
    "every_n_train_steps checkpoint_freq",
    "checkpointing.keep_every": "keep_interval save_top_k",
    "video.every": "record_video_interval capture_video video_interval render video_freq record_video",
    "logger": "loggers tensorboard_log wandb_mode track use_wandb tensorboard log",
    "wandb.project": "wandb_project wandb_project_name project project_name",
    "wandb.entity": "wandb_entity",
    "wandb.name": "wandb_name",
    "trainer.devices": "devices gpus num_gpus n_gpus ngpu tpu_cores num_processes nproc_per_node num_learners",
    "trainer.accelerator": "accelerator cuda use_cuda use_gpu gpu",
    "trainer.precision": "precision amp fp16 bf16 mixed_precision half",
    "trainer.num_nodes": "num_nodes nnodes nodes",
    "trainer.strategy": "strategy",
    "trainer.max_time": "max_time time_budget max_hours",
    "trainer.deterministic": "torch_deterministic deterministic",
    "network.host": "master_addr host address",
    "network.port": "master_port port",
    "offline.folder": "dataset data_dir demonstrations demos dataset_path",
    "offline.coef": "bc_coef",
    "auxiliary.epochs": "aux_epochs",
}
"""Our key -> what Stable-Baselines3, CleanRL, RLlib, MineStudio's `online_dict`, Lightning and others call it."""

_OURS = {name: key for key, names in _ELSEWHERE.items() for name in names.split()}

_NOTES = {
    "iterations": "each learns from buffer.fragments_per_iteration fragments of fragment.length steps",
    "optimizer.minibatches": "how many minibatches an iteration has, not their size",
    "collector.envs_per_worker": "there are collector.count x workers x envs_per_worker environments",
    "fragment.length": "steps of one environment that are sent together",
    "trainer.devices": "trainer processes, one on each GPU",
    "collector.device": "where collectors play; trainer.accelerator is where the learner learns",
}
"""What differs from what the other name says."""

_CHOICES = {
    "env": {
        "minestudio": "minecraft malmo minerl mc java minedojo mcsim minecraftsim",
        "world": "voxel embedded craftium mineworld builtin default",
        "gym id": "cartpole cartpole-v1 gymnasium atari mujoco openai box2d classic_control",
    },
    "policy": {
        "tiny": "cnn cnnpolicy conv small impala",
        "tiny policy.memory=gru": "lstm gru rnn recurrent cnnlstmpolicy",
        "mlp": "mlppolicy fc dense",
        "vpt": "vpt_1x foundation minecraftpolicy openai",
    },
}
"""Group -> choice -> words for it."""


_MOST = 3
"""Keys in one suggestion."""


def suggest_key(key: str) -> str:
    """A sentence about what `key`, which does not exist, may stand for. It names whole keys."""
    settings = all_settings()
    choices = [setting.choice for setting in settings if setting.key == key and setting.choice]
    if choices:
        return f"It belongs to {' and '.join(choices)}."
    above = next((setting for setting in settings if key.startswith(f"{setting.key}.")), None)
    if above is not None and above.key != "trainer":
        return f"{above.key} has no keys of its own: it takes {with_article(above.values)}."
    name = key.rpartition(".")[2].lower().replace("-", "_")
    keys = [*dict.fromkeys(setting.key for setting in settings)]
    sections = dict.fromkeys(known.rpartition(".")[0] for known in keys if "." in known)
    meant = [_OURS[name]] if name in _OURS else []
    if not meant:  # a slip of the finger in a whole key
        meant = difflib.get_close_matches(key, [*keys, *sections, "experiment"], n=1, cutoff=0.85)
    if not meant:  # a part of a name, in the right section
        section = f"{key.rpartition('.')[0]}."
        meant = [known for known in keys if section != "." and known.startswith(section) and name in known]
    if not meant or "." not in key:
        meant += [known for known in keys if known.rpartition(".")[2] == name and ".0." not in known]
    if not meant:
        names = {**_OURS, **{known.rpartition(".")[2]: known for known in keys}}
        meant = [names[close] for close in difflib.get_close_matches(name, names, n=1, cutoff=0.75)]
    if not meant:
        return "`python -m mineonline.train --help` shows all keys."
    meant = [*dict.fromkeys(meant)][:_MOST]
    note = f" ({_NOTES[meant[0]]})" if len(meant) == 1 and name in _OURS and meant[0] in _NOTES else ""
    return f"Did you mean {' or '.join(meant)}{note}?"


def suggest_choice(group: str, word: str, options: Iterable[str]) -> str:
    """A sentence about which of `options` the `word` may stand for; empty if there is no telling."""
    for choice, words in _CHOICES.get(group, {}).items():
        if word.lower() in words.split():
            return f"Did you mean {group}={choice.replace(' id', ' env.id=CartPole-v1')}?"
    close = difflib.get_close_matches(word, list(options), n=1)
    return f"Did you mean {group}={close[0]}?" if close else ""
